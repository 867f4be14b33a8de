"""``lexical.json`` holds each draw of rows once, and what it holds is not measured again."""

import json

import pytest

from convbert.models.errors import DamagedError
from convbert.pretrain.evaluation.lexical import measure_lexical
from convbert.pretrain.finetune.baselines import lexical_scores
from convbert.pretrain.finetune.data import Features, TaskData
from convbert.pretrain.finetune.reading import read_examples
from convbert.pretrain.finetune.task import TaskSpec

WORDS = ["red", "green", "blue", "gray", "pink", "black", "white", "brown", "teal", "gold"]


def prepared(tmp_path, train_rows, **settings):
    """A task on whether the first word comes before the second one in the alphabet."""
    rows = [(f"{a} {b}", int(a < b)) for a in WORDS for b in WORDS]
    lines = "".join(f"{text},{label}\n" for text, label in rows)
    (tmp_path / "task.csv").write_text("text,label\n" + lines)
    entry = {"name": "t", "train": tmp_path / "task.csv", "text": ["text"], "split": {"dev": 0.3}}
    entry |= {"metrics": ["accuracy", "f1"], "train_rows": train_rows}
    task = TaskSpec.model_validate(entry | settings)
    examples, names = read_examples(task)
    return TaskData(task, names, 0, 0, {split: Features() for split in examples}, examples)


def test_every_seed_has_the_baseline_of_its_own_rows(tmp_path):
    data = prepared(tmp_path, [20])
    found = measure_lexical(data, range(4), tmp_path / "report")
    expected = [lexical_scores(data.for_seed(seed))["dev"] for seed in range(4)]
    spreads = found.spreads["dev"]
    for metric in ("accuracy", "f1"):
        scores = [scores[metric] for scores in expected]
        assert spreads[metric].scores == scores
        assert (spreads[metric].low, spreads[metric].high) == (min(scores), max(scores))
    assert spreads["accuracy"].low < spreads["accuracy"].high
    (whole,) = prepared(tmp_path, ["all"]).task.by_size()
    alike = measure_lexical(prepared(tmp_path, whole.train_rows), range(4), tmp_path / "report")
    assert len(alike.spreads["dev"]["accuracy"].scores) == 1, "all seeds have the same rows"
    draws = json.loads((tmp_path / "report" / "lexical.json").read_text())["draws"]
    assert [draw["rows"]["train"] for draw in draws] == [20] * 4 + [len(data.examples["train"])]


def test_what_was_measured_is_read_unless_the_rows_changed(tmp_path):
    data = prepared(tmp_path, 30)
    measure_lexical(data, range(3), tmp_path)
    path = tmp_path / "lexical.json"
    content = json.loads(path.read_text())
    (draw,) = content["draws"]
    draw["scores"]["dev"]["accuracy"] = 0.125
    path.write_text(json.dumps(content))
    again = measure_lexical(data, range(3), tmp_path)
    assert again.level("dev", "accuracy").spread.median == 0.125
    data.examples["train"].pop()
    other = measure_lexical(data, range(3), tmp_path)
    assert other.level("dev", "accuracy").spread.median == lexical_scores(data)["dev"]["accuracy"]


def test_a_question_has_none_and_a_damaged_file_is_named(tmp_path):
    data = prepared(tmp_path, 30)
    asked = data.task.model_copy(update={"kind": "qa"})
    assert measure_lexical(TaskData(asked, [], 0, 0, {}, {}), [0], tmp_path / "none") is None
    assert not (tmp_path / "none").exists()
    (tmp_path / "lexical.json").write_text('{"draws": 3}')
    with pytest.raises(DamagedError, match=r"lexical\.json: not a file of the lexical .* move it"):
        measure_lexical(data, [0], tmp_path)
