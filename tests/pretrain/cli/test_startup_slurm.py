"""Commands about jobs start fast: they load neither torch nor what needs it."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from convbert.cluster.follow import Evaluation
from convbert.cluster.records import JobRecords
from convbert.cluster.site import load_site

PROGRAM = """
import sys
from convbert.pretrain.cli import main
sys.argv[1:] = {arguments!r}
try:
    code = main()
except SystemExit as end:
    code = end.code
heavy = [m for m in ("torch", "mlflow", "deepspeed", "transformers") if m in sys.modules]
open({output!r}, "w").write(__import__("json").dumps([code, heavy]))
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with a running job, its log, and a permanent checkpoint to evaluate."""
    folder = tmp_path / "run"
    (folder / "checkpoints" / "step-00000010").mkdir(parents=True)
    settings = {"steps": 10, "schedule": {"warmup_steps": 1}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    load_site("local").keep(folder)
    Evaluation(tasks={"mine.yaml": tmp_path}).save(folder)
    JobRecords(folder).submitted("7", "pretrain", folder / "slurm" / "7.log")
    (folder / "slurm" / "7.log").write_text("step 10\n")
    return folder


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("status", "running (node0)"),
        ("logs", "step 10"),
        ("stop", "job 7: saves"),
        ("follow", "evaluation queued as job 8"),
    ],
)
def test_command_works_without_torch(run: Path, tmp_path: Path, command: str, text: str) -> None:
    answers = {"squeue": "7|RUNNING|None|node0|5:00", "scancel": "", "sbatch": "8", "sacct": ""}
    for name, answer in answers.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\necho '{answer}'\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    output = tmp_path / "found.json"
    program = PROGRAM.format(arguments=[command, str(run)], output=str(output))
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    shown = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(output.read_text()) == [0, []], shown
    expected = {
        "status": "running (node0)",
        "logs": "step 10",
        "stop": "job 7: saves",
        "follow": "8",
    }
    assert expected[command] in shown.stdout
