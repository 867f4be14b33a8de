"""``convbert pretrain`` speaks and refuses before it loads anything heavy, and leaves nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from convbert.pretrain.cli import app
from convbert.pretrain.run.exit_codes import STOPPED
from convbert.pretrain.run.preparation import prepare
from convbert.pretrain.training import launch as launching

HEAVY = ("torch", "mlflow", "deepspeed", "transformers")
PROGRAM = """
import json, sys
from convbert.pretrain.cli import main

class Ends:
    \"\"\"Standard output that ends the command with its first line.\"\"\"

    def write(self, text):
        found(0, text)
        raise SystemExit(0)

    def flush(self):
        pass

def found(code, text=""):
    heavy = [m for m in {heavy!r} if m in sys.modules]
    print(json.dumps([code, text, heavy]), file=sys.__stdout__, flush=True)

sys.argv[1:] = {arguments!r}
sys.stdout = Ends()
code = main()
found(code)
"""


def start(shards: Path, tokenizer: Path, run: Path, *settings: str) -> tuple[list, str]:
    data = [f"data.manifest={shards / 'manifest.json'}", f"data.tokenizer={tokenizer}"]
    arguments = ["pretrain", "tiny", *data, "global_batch=8", *settings, "--run-dir", str(run)]
    program = PROGRAM.format(heavy=HEAVY, arguments=arguments)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return json.loads(done.stdout), done.stderr


def test_a_refusal_loads_nothing_and_leaves_no_directory(
    shards_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    run, setting = tmp_path / "runs" / "one", "tracking.uri=mlruns"
    found, errors = start(shards_dir, tokenizer_dir, run, setting, "--processes", "2")
    assert found == [2, "", []]
    (line,) = errors.splitlines()
    assert "tracking URI 'mlruns'" in line
    assert not any(tmp_path.iterdir())


def test_the_first_line_comes_before_anything_heavy(
    shards_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "one"
    (code, line, heavy), errors = start(shards_dir, tokenizer_dir, run, "--processes", "2")
    assert (code, heavy) == (0, []), errors
    assert line.startswith(f"{run}: starts 2 processes")


@pytest.mark.slow
def test_a_worker_that_compiles_nothing_loads_no_compiler(
    shards_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    settings = [
        f"data.manifest={shards_dir / 'manifest.json'}",
        f"data.tokenizer={tokenizer_dir}",
        *("steps=3", "schedule.warmup_steps=1", "global_batch=8", "threads=1", "precision=fp32"),
        "model.overrides={num_layers: 1, hidden_size: 32, embedding_size: 32, num_heads: 2}",
        *("tracking.uri=off", "tracking.system_seconds=null", "evaluation.show=[]"),
    ]
    prepare("tiny", settings, tmp_path / "run", 1)
    program = (
        "import sys\n"
        "from convbert.pretrain.training import worker\n"
        f"sys.argv[1:] = [{str(tmp_path / 'run')!r}]\n"
        "assert worker.main() == 0\n"
        "names = ('torch._dynamo', 'torch._inductor', 'mlflow')\n"
        "print(*[name for name in names if name in sys.modules], sep=',')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "", done.stderr
    assert "Setting accelerator" not in done.stderr + done.stdout


@pytest.mark.parametrize(("given", "again"), [(["--processes", "2"], " --processes 2"), ([], "")])
def test_the_command_that_continues_trains_as_many_processes(
    shards_dir: Path,
    tokenizer_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: list[str],
    again: str,
) -> None:
    monkeypatch.setattr(launching, "launch", lambda *_arguments: STOPPED)
    monkeypatch.setattr(launching, "gpus_here", lambda: 0)
    settings = [f"data.manifest={shards_dir / 'manifest.json'}", "global_batch=8"]
    settings += [f"data.tokenizer={tokenizer_dir}", "--run-dir", str(tmp_path / "run")]
    done = CliRunner().invoke(app, ["pretrain", "tiny", *settings, *given])
    assert done.exit_code == STOPPED
    assert f"`convbert pretrain {tmp_path / 'run'}{again}` continues" in done.stderr
