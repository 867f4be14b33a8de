"""``probe.json`` keeps what other commands measured, and is refused where it is none."""

import json

import pytest

from convbert.models.errors import DamagedError
from convbert.pretrain.evaluation.evaluated_run import StartingPoint
from convbert.pretrain.evaluation.probing import _write

FIRST, LATER = StartingPoint("step 2", 2, 2e9), StartingPoint("step 4", 4, 4e9)


def test_other_checkpoints_stay_as_long_as_pooling_and_rows_are_the_same(tmp_path):
    path = _write(tmp_path, "mean", "d1g3st", [(LATER, {"probe/t/accuracy": 0.75})])
    _write(tmp_path, "mean", "d1g3st", [(FIRST, {"probe/t/accuracy": 0.5})])
    content = json.loads(path.read_text())
    assert content == {
        "pooling": "mean",
        "data": "d1g3st",
        "points": [
            {"start": "step 2", "step": 2, "flops": 2e9, "values": {"probe/t/accuracy": 0.5}},
            {"start": "step 4", "step": 4, "flops": 4e9, "values": {"probe/t/accuracy": 0.75}},
        ],
    }
    _write(tmp_path, "cls", "d1g3st", [(FIRST, {"probe/t/accuracy": 0.25})])
    assert [point["step"] for point in json.loads(path.read_text())["points"]] == [2]
    _write(tmp_path, "cls", "0ther", [(LATER, {"probe/t/accuracy": 1.0})])
    assert [point["step"] for point in json.loads(path.read_text())["points"]] == [4]


@pytest.mark.parametrize("content", ["", "[]", '{"pooling": "mean"}', '{"pooling": "max"}'])
def test_a_damaged_file_is_named_with_the_remedy(tmp_path, content):
    (tmp_path / "probe.json").write_text(content)
    with pytest.raises(DamagedError, match=r"probe\.json: not a file of a probe .* move it away"):
        _write(tmp_path, "mean", "d1g3st", [(FIRST, {"probe/t/accuracy": 0.5})])
