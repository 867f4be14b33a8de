"""A place that no output can have is one line that names it, whatever command is told of it."""

import errno
import os
import sys
from pathlib import Path

import pytest

from convbert.models.errors import AbsentError
from convbert.pretrain import cli
from convbert.pretrain.exchange.export import export_checkpoint
from convbert.pretrain.run.preparation import prepare


def refusal(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """Run the command line in this process and return its one line of error."""
    monkeypatch.delenv("CONVBERT_TRACEBACK", raising=False)
    monkeypatch.setattr(sys, "argv", ["convbert", *arguments])
    assert cli.main() == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.mark.parametrize("below", [False, True])
@pytest.mark.parametrize(
    "command",
    [
        ["study", "--plan", "-o"],
        ["quickstart", "-o"],
        ["sweep", "tiny", "--plan", "-o"],
        ["pretrain", "tiny", "--run-dir"],
        ["submit", "tiny", "--dry-run", "--run-dir"],
    ],
    ids=lambda command: command[0],
)
def test_a_file_in_the_place_of_a_directory(
    tmp_path, monkeypatch, capsys, shards_dir, tokenizer_dir, command, below
):
    settings = [f"data.manifest={shards_dir / 'manifest.json'}", f"data.tokenizer={tokenizer_dir}"]
    (tmp_path / "taken").write_text("text")
    place = tmp_path / "taken" / "x" if below else tmp_path / "taken"
    extra = settings if "tiny" in command else []
    line = refusal([*command, str(place), *extra], monkeypatch, capsys)
    assert str(tmp_path / "taken") in line
    assert "choose another place" in line
    assert (tmp_path / "taken").read_text() == "text"


def test_a_run_in_proc(monkeypatch, capsys, shards_dir, tokenizer_dir):
    settings = [f"data.manifest={shards_dir / 'manifest.json'}", f"data.tokenizer={tokenizer_dir}"]
    command = ["pretrain", "tiny", "--run-dir", "/proc/run", *settings, "global_batch=8"]
    line = refusal(command, monkeypatch, capsys)
    assert line == "error: /proc/run: the kernel makes what is there; choose another place"


def test_an_export_that_cannot_be_written_is_refused_before_the_model_is_read(
    tmp_path, shards_dir, tokenizer_dir
):
    data = [f"data.manifest={shards_dir / 'manifest.json'}", f"data.tokenizer={tokenizer_dir}"]
    run, _ = prepare("tiny", [*data, "global_batch=8"], tmp_path / "run", 1)
    (tmp_path / "taken").touch()
    with pytest.raises(FileExistsError):
        export_checkpoint(run, tmp_path / "taken")
    with pytest.raises(AbsentError, match="no checkpoint"):  # what comes next
        export_checkpoint(run, tmp_path / "new" / "model")
    assert not (tmp_path / "new").exists()


def test_every_fault_of_a_place_has_its_remedy_and_other_faults_keep_their_traceback(
    tmp_path, monkeypatch, capsys
):
    def fail(number: int, name: Path | None) -> None:
        def app() -> None:
            raise OSError(number, os.strerror(number), name and str(name))

        monkeypatch.setattr(cli, "app", app)

    for number, said in (
        (errno.EROFS, "read-only"),
        (errno.ENOSPC, "no space"),
        (errno.EACCES, "permission"),
    ):
        fail(number, tmp_path / "out")
        line = refusal([], monkeypatch, capsys)
        assert line.startswith(f"error: {tmp_path / 'out'}: ")
        assert said in line
    for number, name in ((errno.EBADF, tmp_path), (errno.ENOSPC, None)):
        fail(number, name)
        with pytest.raises(OSError, match=os.strerror(number)):
            cli.main()
