"""What cannot be registered is refused before a model is exported."""

from pathlib import Path

import pytest

from convbert.models.errors import UserError
from convbert.pretrain.cli.exchange import export
from convbert.pretrain.exchange.registering import require_name


@pytest.mark.parametrize("name", ["", " ", "team/model", "a:b", "it's", 'a "b"'])
def test_a_name_that_mlflow_does_not_take(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"--register .*no name of a model"):
        export(tmp_path / "run", tmp_path / "out", register=name)
    assert not (tmp_path / "out").exists()


def test_other_names_are_taken() -> None:
    for name in ("toy-encoder", "our model 2", "мова"):
        require_name(name)
