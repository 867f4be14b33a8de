"""An option that the rest of the command line gives nothing to say is refused, not ignored."""

import sys
from pathlib import Path

import pytest

from convbert.pretrain import cli

FINETUNE = ["--task", "rotten_tomatoes"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["finetune", "model", *FINETUNE, "--step", "4"], "--step 4: model is one model"),
        (["finetune", "model", *FINETUNE, "--average", "last:2"], "--average last:2: model is one"),
        (
            ["finetune", "run", *FINETUNE, "--tokenizer", "t"],
            "--tokenizer t: run is a run, which has its own",
        ),
        (
            ["finetune", "run", *FINETUNE, "-o", "out"],
            "--output out: run is a run, which has its own",
        ),
        (
            ["finetune", "run/checkpoints/step-00000004", *FINETUNE, "--step", "8"],
            "--step 8: run/checkpoints/step-00000004 is a checkpoint of a run",
        ),
        (["pairs", "model", "text.txt", "--step", "4"], "--step 4: model is one model"),
        (
            ["pairs", "run", "text.txt", "--tokenizer", "t"],
            "--tokenizer t: run is a run, which has its own",
        ),
        (["show", "run/checkpoints/step-00000004", "--step", "8"], "is a checkpoint of a run"),
        (["import", "model", "-o", "out", "--size", "base"], "--size base: model/config.json says"),
        (
            ["import", "model", "-o", "out", "--vocab-size", "9"],
            "--vocab-size 9: model/config.json",
        ),
        (["submit", "tiny", "--limit", "2"], "--limit 2: is for --array"),
        (["submit", "tiny", "--data-dir", "data"], "--data-dir data: is for --evaluate"),
        (["submit", "tiny", "--seeds", "5"], "--seeds 5: is for --evaluate"),
        (
            ["submit", "tiny", "--evaluate-time", "10:00"],
            "--evaluate-time 10:00: is for --evaluate",
        ),
        (
            ["corpus", "build", "c.yaml", "-o", "c", "--workers", "2", "--scheduler-file", "s"],
            "--workers 2: those of s build the corpus",
        ),
        (["tokenizer", "report", "t", "text", "--json", "--format", "csv"], "--format csv: --json"),
        (["status", "--watch", "--format", "csv"], "--format csv: is for one look"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_option_that_says_nothing_here_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    message: str,
) -> None:
    for path in ("model/config.json", "run/config.yaml", "run/checkpoints/step-00000004/x"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONVBERT_TRACEBACK", raising=False)
    monkeypatch.setattr(sys, "argv", ["convbert", *command])
    assert cli.main() == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert "leave" in line
    assert {path.name for path in tmp_path.iterdir()} == {"model", "run"}
