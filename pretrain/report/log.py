"""The metrics file of a run, read as it grows: the page of a run that trains is made again often.

What was read once is not read again, unless the file was cut back to a checkpoint.
"""

from pathlib import Path

from convbert.pretrain.report.track import Thinning
from convbert.pretrain.tracking.metrics_log import lines
from convbert.pretrain.tracking.records import (
    CurvePoint,
    EventRecord,
    StepRecord,
    SystemRecord,
)


class LogReader:
    """What ``metrics.jsonl`` says so far: the run's own points, events, updates and machines."""

    def __init__(self, path: Path) -> None:
        """Read nothing yet of the file at ``path``, which may be missing."""
        self.path = path
        self._forget()

    def _forget(self) -> None:
        self._offset = 0
        self._number = 1
        self._last = b""  # the line before the offset
        self.updates = Thinning()
        self.points: list[CurvePoint] = []
        self.events: list[EventRecord] = []
        self.machines: dict[str, SystemRecord] = {}
        self.newest: StepRecord | None = None
        self.begun: float | None = None
        """Unix seconds of the first update."""

    def read(self, most: int | None = None) -> bool:
        """Read what is new, of it at most so many lines; return whether they were all there.

        Raises ``DamagedError`` that names a line which is no record.
        """
        if self._was_cut():
            self._forget()
        if not self.path.is_file():
            return True
        for line, record in lines(self.path, self._offset, self._number):
            if most is not None and (most := most - 1) < 0:
                return False
            self._offset += len(line)
            self._number += 1
            self._last = line
            self._take(record)
        return True

    def _was_cut(self) -> bool:
        """Return whether the file no longer has the line that was read last where it was."""
        if not self._offset:
            return False
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset - len(self._last))
                return file.read(len(self._last)) != self._last
        except FileNotFoundError:
            return True

    def _take(self, record: object) -> None:
        if isinstance(record, StepRecord):
            self.updates.add(record)
            self.begun = record.time if self.begun is None else self.begun
            self.newest = record
        elif isinstance(record, CurvePoint) and record.within is None:
            self.points.append(record)
        elif isinstance(record, EventRecord):
            self.events.append(record)
        elif isinstance(record, SystemRecord):
            self.machines[record.system] = record
