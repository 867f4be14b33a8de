"""Whole runs of the command line, and what they said of themselves, for the other programs here."""

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from convbert.pretrain.run import metric_names
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.tracking.metrics_log import FILE_NAME, read_records
from convbert.pretrain.tracking.records import CurvePoint, StepRecord

WARMING = 10  # updates that a median leaves out: compilation, recording, caches


def convbert(*arguments: str, log: Path) -> float:
    """Run a command of ``convbert``, its output in ``log``; return its wall seconds.

    Raises RuntimeError with the last lines of the log where it fails.
    """
    begun = time.monotonic()
    with log.open("ab") as file:
        command = [sys.executable, "-m", "convbert.pretrain.cli", *arguments]
        code = subprocess.run(command, stdout=file, stderr=file, check=False).returncode
    if code:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise RuntimeError(f"convbert {' '.join(arguments)} ended with {code}:\n{tail}")
    return time.monotonic() - begun


@dataclass(frozen=True)
class WholeRun:
    """A run that is done: its directory and the wall seconds of the command."""

    path: Path
    wall: float

    def steps(self) -> list[StepRecord]:
        """Return what was logged, update by update."""
        return [r for r in read_records(self.path / FILE_NAME) if isinstance(r, StepRecord)]

    def curve(self, name: str) -> dict[int, float]:
        """Return the points of a curve by the number of updates."""
        records = read_records(self.path / FILE_NAME)
        points = [r for r in records if isinstance(r, CurvePoint) and r.curve == name]
        return {p.extra["step"]: p.value for p in points}

    def median(self, metric: str) -> float:
        """Return the median of a metric over the updates after the first few."""
        steps = self.steps()
        kept = [r for r in steps if r.step > WARMING] or steps[-1:]
        return statistics.median(r.values.get(metric, 0.0) for r in kept)

    @property
    def training_seconds(self) -> float:
        """Seconds of all updates, compilation and checkpoints between them included."""
        total, before = 0.0, 0
        for record in self.steps():
            total += record.values[metric_names.STEP_SECONDS] * (record.step - before)
            before = record.step
        return total

    @property
    def chosen(self) -> str:
        """What the run chose: compiled or eager, and the precision."""
        file = RunDirectory(self.path).execution
        found = json.loads(file.read_bytes()) if file.is_file() else {"compile": False}
        graphs = ", CUDA graphs" if found.get("cuda_graphs") else ""
        return f"{'compiled' if found['compile'] else 'eager'}{graphs}"


def pretrain(recipe: str, settings: list[str], path: Path, processes: int = 1) -> WholeRun:
    """Train a recipe with ``settings`` in ``path`` and return the run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arguments = ["pretrain", recipe, *settings, "--run-dir", str(path)]
    log = path.parent / f"{path.name}.log"
    return WholeRun(path, convbert(*arguments, "--processes", str(processes), log=log))
