"""Records for a run that another process is tracking: handed in as files, taken over by it.

``metrics.jsonl`` has one writer. While that is a training, an evaluation of one of its checkpoints
leaves its curve points in ``inbox/``; the training appends them as if they were its own, and they
reach the same MLflow run. What it did not take before it ended is taken by whoever opens the run
next.
"""

import contextlib
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from convbert.data_pipeline.atomic import atomic_write
from convbert.models.errors import UserError
from convbert.pretrain.tracking.metrics_log import (
    ArtifactRecord,
    CurvePoint,
    MetricsLog,
    NestedRun,
    Record,
    decode,
    encode,
    now,
)

FOLDER = "inbox"
INTERVAL = 5.0
"""Seconds between two looks into the inbox while a run trains."""


class InboxTracker:
    """The tracker of a process that adds to a run which another one tracks."""

    def __init__(self, run_dir: Path, deliver: Callable[[Path], object]) -> None:
        """``deliver`` is tried at the end, in case the other process has ended meanwhile."""
        self._run_dir = run_dir
        self._deliver = deliver
        self._records: list[Record] = []

    def log(self, step: int, flops: float, values: dict[str, float]) -> None:
        """Refuse: only the process that trains knows steps."""
        raise UserError(f"{self._run_dir}: trained by a running process; wait until it ends")

    def curve_point(
        self, flops: float, name: str, value: float, *, within: str | None = None, **extra: Any
    ) -> None:
        """Keep one curve record for the end."""
        self._records.append(CurvePoint(name, now(), float(flops), float(value), extra, within))

    def nested(self, run: NestedRun) -> None:
        """Keep the description of a nested run for the end."""
        self._records.append(run)

    def event(self, kind: str, action: str, at: int, facts: dict[str, float]) -> None:
        """Refuse, as ``log``."""
        self.log(at, 0.0, facts)

    def rewind(self, step: int) -> None:
        """Refuse, as ``log``."""
        self.log(step, 0.0, {})

    def artifact(self, path: Path) -> None:
        """Keep one artifact record for the end."""
        self._records.append(ArtifactRecord(str(Path(path).resolve()), now()))

    def flush(self) -> None:
        """Do nothing: the records appear together at the end."""

    def close(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """Hand in the records, all or, after a failure, none."""
        if status == "FINISHED" and self._records:
            folder = self._run_dir / FOLDER
            folder.mkdir(exist_ok=True)
            with atomic_write(folder / f"{time.time_ns()}-{uuid.uuid4().hex[:8]}.jsonl") as file:
                file.write(b"".join(map(encode, self._records)))
            with contextlib.suppress(UserError):  # usually: it trains on, and will take them
                self._deliver(self._run_dir)


def waiting(run_dir: Path) -> list[Path]:
    """Return what was handed in, oldest first."""
    return sorted((run_dir / FOLDER).glob("[!.]*.jsonl"))


def take_over(run_dir: Path, log: MetricsLog) -> int:
    """Append what lies in the inbox to the run's log; return the number of records.

    A crash in between repeats records, of which the delivery to MLflow sends each value once.
    """
    count = 0
    for path in waiting(run_dir):
        for line in path.read_bytes().splitlines():
            log.append(decode(line))
            count += 1
        log.sync()
        path.unlink()
    return count
