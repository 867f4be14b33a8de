"""Time a few real updates of a run on the machine at hand: ``convbert plan --measure``."""

import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from convbert.models.errors import UserError
from convbert.pretrain.run import metric_names
from convbert.pretrain.tracking.metrics_log import FILE_NAME, read_records
from convbert.pretrain.tracking.records import StepRecord

UPDATES = 12
_WARMING = 4  # updates that are not counted: caches, allocation, compilation


@dataclass(frozen=True)
class Rehearsal:
    """Median seconds of an update of the first phase, and of how many they are the median.

    ``first`` is what the first updates took beyond that: to compile, mostly.
    """

    seconds: float
    updates: int
    processes: int
    first: float


def rehearse(
    recipe: str, overrides: list[str], processes: int, *, compiles: bool | None = None
) -> Rehearsal:
    """Train the first updates of a run in a folder that is thrown away, and time them.

    Data, precision, compilation and ZeRO are the run's; it writes one checkpoint and tracks
    nothing. ``compiles`` is what the whole run chooses where ``compile`` is auto: for these few
    updates alone it would not pay. Raises ``UserError`` with the last lines of its output where
    it cannot be trained.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        changed = [
            f"steps={UPDATES}",
            "schedule={name: constant, warmup_steps: 0}",
            "phases=[]",
            "checkpoint={every: 1000000}",
            "evaluation={held_out: null, pairs: null, show: []}",
            "tracking={uri: 'off', log_every: 1}",
        ]
        if compiles is not None:
            changed.append(f"compile={str(compiles).lower()}")
        command = [sys.executable, "-m", "convbert.pretrain.cli", "pretrain", recipe, *overrides]
        command += [*changed, "--run-dir", str(run), "--processes", str(processes)]
        # A plan computes nothing on a GPU and tells DeepSpeed so; these updates do where one is.
        environment = {k: v for k, v in os.environ.items() if k != "DS_ACCELERATOR"}
        found = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment
        )
        if found.returncode:
            said = (found.stderr or found.stdout).strip().splitlines()[-3:]
            raise UserError(f"--measure: {' / '.join(said) or 'the updates failed'}")
        records = [r for r in read_records(run / FILE_NAME) if isinstance(r, StepRecord)]
    times = [r.values[metric_names.STEP_SECONDS] for r in records]
    counted = times[_WARMING:]
    median = statistics.median(counted)
    first = max(0.0, sum(times[:_WARMING]) - _WARMING * median)
    return Rehearsal(median, len(counted), processes, first)
