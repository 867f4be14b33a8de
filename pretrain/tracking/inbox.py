"""Records for a run by a process that does not train it: handed in as files, and taken over.

``metrics.jsonl`` has one writer, and while a checkpoint is measured the run belongs to nobody but
its training. So an evaluation leaves its curve points in ``inbox/`` when it is through. A training
that runs then appends them as if they were its own, and they reach the same MLflow run; otherwise
the evaluation delivers them itself. What is left behind is taken by whoever opens the run next.
"""

import logging
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from convbert.data_pipeline.atomic import atomic_write
from convbert.models.errors import UserError
from convbert.pretrain.tracking.claim import HeldError
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

logger = logging.getLogger(__name__)


class InboxTracker:
    """The tracker of a process that adds to a run which it does not train."""

    def __init__(self, run_dir: Path, deliver: Callable[[], object]) -> None:
        """``deliver`` is tried at the end; it raises ``HeldError`` where the run is tracked."""
        self._run_dir = run_dir
        self._deliver = deliver
        self._records: list[Record] = []

    def log(self, step: int, flops: float, values: dict[str, float]) -> None:
        """Refuse: only the process that trains knows steps."""
        raise UserError(f"{self._run_dir}: added to by an evaluation, which trains no steps")

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
        self._records.append(ArtifactRecord.of(self._run_dir, path))

    def flush(self) -> None:
        """Do nothing: the records appear together at the end."""

    def close(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """Hand in the records, all or, after a failure, none."""
        if status == "FINISHED" and self._records:
            folder = self._run_dir / FOLDER
            folder.mkdir(exist_ok=True)
            with atomic_write(folder / f"{time.time_ns()}-{uuid.uuid4().hex[:8]}.jsonl") as file:
                file.write(b"".join(map(encode, self._records)))
            try:
                self._deliver()
            except HeldError:  # whoever tracks the run takes them over
                pass
            except UserError as error:
                logger.warning("%s", error)


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
