"""What is refused before a run directory exists or anything heavy is loaded."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from convbert.models.errors import UserError
from convbert.pretrain.cli import app
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.run.preparation import prepare


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("checkpoint.best_metric=loss/totla", "loss/totla.*did you mean loss/total"),
        ("checkpoint.best_metric=held_out/loss/mlm", "held_out/loss/mlm.*choose one of"),
        ("tracking.uri=ftp://host/x", "tracking URI 'ftp://host/x': is of no kind"),
        ("tracking.uri=sqlite:////nowhere/m.db", "no folder /nowhere"),
        ("tracking.uri=sqlite:////usr", "is a folder"),
        ("tracking.uri=http://", "tracking URI 'http://': is of no kind"),
        ("model.overrides={type_vocab_size: 1}", "hold two segments, the model has 1 token type"),
    ],
)
def test_a_setting_that_cannot_train_leaves_no_directory(
    shards_dir: Path, tokenizer_dir: Path, tmp_path: Path, setting: str, named: str
) -> None:
    data = [f"data.manifest={shards_dir / 'manifest.json'}", f"data.tokenizer={tokenizer_dir}"]
    run = tmp_path / "runs" / "one"
    with pytest.raises(UserError, match=named):
        prepare("tiny", [*data, "global_batch=8", setting], run, 1)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["evaluation.held_out={shards}"], ["the run trains on these shards"]),
        (["checkpoint.every=6", "checkpoint.keep_every=4"], ["checkpoints of every 12 updates"]),
        (["checkpoint.every=6", "checkpoint.keep_every=12"], []),
    ],
)
def test_what_hardly_anybody_wants_is_said(
    shards_dir: Path,
    tokenizer_dir: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    settings: list[str],
    said: list[str],
) -> None:
    shards = shards_dir / "manifest.json"
    data = [f"data.manifest={shards}", f"data.tokenizer={tokenizer_dir}", "global_batch=8"]
    prepare("tiny", [*data, *(s.format(shards=shards) for s in settings)], tmp_path / "run", 1)
    assert len(caplog.messages) == len(said)
    assert all(part in line for part, line in zip(said, caplog.messages, strict=True))


def test_the_losses_of_another_objective_are_not_measured(
    shards_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    data = [f"data.manifest={shards_dir / 'manifest.json'}", f"data.tokenizer={tokenizer_dir}"]
    settings = [*data, "global_batch=8", "checkpoint.best_metric=loss/rtd"]
    prepare("tiny", settings, tmp_path / "rtd", 1)
    with pytest.raises(UserError, match="loss/rtd: no update measures that"):
        prepare("tiny", [*settings, "model.overrides={objective: mlm}"], tmp_path / "mlm", 1)


def test_no_run_of_a_sweep_is_written_where_one_cannot_train(
    tmp_path: Path, shards_dir: Path, tokenizer_dir: Path
) -> None:
    file, root = tmp_path / "sweep.yaml", tmp_path / "sweep"
    file.write_text("{one: {seed: 1}, two: {tracking.uri: ftp://host/x}}")
    places = [f"data.manifest={shards_dir}/manifest.json", f"data.tokenizer={tokenizer_dir}"]
    given = ["submit", "tiny", *places, "global_batch=8", "--array", str(file), "--run-dir"]
    refused = CliRunner().invoke(app, [*given, str(root), "--dry-run"])
    assert str(refused.exception).startswith(f"--array {file}: 'two': tracking URI 'ftp://host/x'")
    assert not root.exists()


@pytest.mark.parametrize(
    ("path", "said"),
    [("tiny", "./tiny"), ("runs/tiny", "runs/tiny"), ("my runs/$x", "'my runs/$x'")],
)
def test_a_command_that_a_message_names_means_the_run(path: str, said: str) -> None:
    assert RunDirectory(Path(path)).argument == said
