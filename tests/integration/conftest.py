"""Runs of the real command line on two processes."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from forked import Zygote

SETTINGS = [
    "steps=12",
    "global_batch=8",
    "schedule.warmup_steps=2",
    "checkpoint.every=4",
    "tracking.log_every=2",
    "tracking.uri=off",
    "tracking.system_seconds=null",
    "evaluation.show=[]",
    "tracking.page_seconds=null",
    "threads=1",
    "model.overrides={num_layers: 2, hidden_size: 64, embedding_size: 64, num_heads: 2}",
]


class Runner:
    """Starts ``convbert pretrain`` on the shared shards."""

    def __init__(self, shards: Path, tokenizer: Path) -> None:
        self.settings = [
            *SETTINGS,
            f"data.manifest={shards / 'manifest.json'}",
            f"data.tokenizer={tokenizer}",
        ]

    def command(self, run: Path, *settings: str, processes: int = 2) -> list[str]:
        """Return the command line of a run; later settings override earlier ones."""
        command = [sys.executable, "-m", "convbert.pretrain.cli", "pretrain", "tiny"]
        return [
            *command,
            *self.settings,
            *settings,
            "--run-dir",
            str(run),
            "--processes",
            str(processes),
        ]

    def start(self, run: Path, *settings: str, processes: int = 2) -> "subprocess.Popen[str]":
        """Start a run in a process group of its own."""
        return subprocess.Popen(
            self.command(run, *settings, processes=processes),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def finish(self, run: Path, *settings: str, processes: int = 2) -> str:
        """Run to the end and return the output; fails the test if it does not succeed."""
        process = self.start(run, *settings, processes=processes)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        return output


@pytest.fixture(scope="session")
def runner(shards_dir: Path, tokenizer_dir: Path) -> Runner:
    """A starter of runs."""
    return Runner(shards_dir, tokenizer_dir)


@pytest.fixture(scope="session")
def zygote(shards_dir: Path, tokenizer_dir: Path) -> Iterator[Zygote]:
    """A starter of runs that costs no imports."""
    zygote = Zygote(shards_dir, tokenizer_dir)
    yield zygote
    zygote.close()


def losses(run: Path) -> dict[int, tuple[float, ...]]:
    """Return by step what must be equal in a repeated run."""
    keys = ("loss/total", "loss/mlm", "loss/rtd", "optimizer/gradient_norm")
    found: dict[int, tuple[float, ...]] = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        if "step" in record and "values" in record:
            assert record["step"] not in found, f"step {record['step']} is logged twice"
            found[record["step"]] = tuple(record["values"][key] for key in keys)
    return found


Losses = Callable[[Path], dict[int, tuple[float, ...]]]


@pytest.fixture(scope="session")
def read_losses() -> Losses:
    """The reader of a run's losses."""
    return losses
