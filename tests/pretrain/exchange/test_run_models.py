"""What does not go with a run is refused, not ignored: options, and the tokenizer of another."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from convbert.data_pipeline.readers import iter_documents
from convbert.data_pipeline.tokenizer.training import train_tokenizer
from convbert.models.errors import UserError
from convbert.pretrain.exchange.export import export_checkpoint
from convbert.pretrain.exchange.run_models import require_fitting, tokenizer_of
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.run.preparation import prepare
from convbert.pretrain.run.timeline import Timeline

RUN = RunDirectory(Path("run"))


@pytest.mark.parametrize(
    ("found", "options", "message"),
    [
        (None, {"step": [3, 6]}, "--step 3: place is one model; leave it out"),
        (None, {"average": "last:3"}, "--average last:3: place is one model"),
        ((RUN, []), {"tokenizer": Path("t")}, "--tokenizer t: place is a run, which has its own"),
        ((RUN, []), {"output": Path("o")}, "--output o: place is a run, which has its own"),
        ((RUN, [4]), {"step": 6}, "--step 6: place is a checkpoint of a run"),
        ((RUN, [4]), {"output": Path("o")}, "--output o: place is a checkpoint of a run"),
    ],
)
def test_an_option_without_a_meaning_is_refused(
    found: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        require_fitting(Path("place"), found, **options)


def test_options_with_a_meaning_are_taken() -> None:
    require_fitting(Path("place"), None, tokenizer=Path("t"), output=Path("o"), step=None)
    require_fitting(Path("place"), (RUN, []), step=[4], average="last:2", tokenizer=None)
    require_fitting(Path("place"), (RUN, [4]), average="last:2")


def test_another_tokenizer_in_the_place_of_the_runs_own_is_refused(
    tmp_path: Path, corpus: Path, shards_dir: Path, tokenizer_dir: Path
) -> None:
    """Its ids mean other words: every measure would be one of noise."""
    words = shutil.copytree(tokenizer_dir, tmp_path / "words")
    settings = [f"data.manifest={shards_dir / 'manifest.json'}", f"data.tokenizer={words}"]
    run, _ = prepare("tiny", [*settings, "global_batch=8"], tmp_path / "run", 1)
    timeline = Timeline.load(run.open())
    assert tokenizer_of(run.open(), timeline).vocab_size == 1000
    shutil.rmtree(words)
    train_tokenizer(iter_documents([corpus]), words, vocab_size=900)
    with pytest.raises(UserError, match=r"words: not the tokenizer that .*; put that one there"):
        tokenizer_of(run.open(), timeline)
    with pytest.raises(UserError, match="words: not the tokenizer"):
        export_checkpoint(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()
