"""``metrics.jsonl``: what a run measured, one JSON object a line, written before anything else.

Six kinds of line share the file, so that one position in it says how much was delivered:

``{"step": 50, "time": 1763900000.1, "flops": 3.1e15, "values": {"loss": 9.2}}``
    training: optimizer step, Unix seconds, cumulative training FLOPs, scalars;
``{"curve": "rotten_tomatoes/accuracy", "time": ..., "flops": 3.1e15, "value": 0.71, "extra": {}}``
    one point of an accuracy-against-FLOPs curve, with ``"within"`` of a nested run's;
``{"nested": "4f0c...", "name": "rotten_tomatoes, seed 0", "time": ..., "seconds": 31.0, ...}``
    a run within this one, such as one seed of a fine-tuning: settings, tags and data;
``{"system": "node-7", "time": ..., "measured": {"cpu_utilization_percentage": 97.0}}``
    what a machine was doing;
``{"event": "nan", "action": "skip", "at": 51, "time": ..., "facts": {"loss": "nan", ...}}``
    something that befell optimizer step ``at`` and what was done about it; a rollback carries
    the first step that is trained again;
``{"artifact": "report/curve.png", "time": ...}``
    a file of the run directory that belongs on the tracking server.

NaN and infinities are not JSON; they are written as the strings ``"nan"``, ``"inf"``, ``"-inf"``.
"""

import json
import math
import mmap
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from convbert.data_pipeline.atomic import atomic_write
from convbert.models.errors import UserError

FILE_NAME = "metrics.jsonl"


@dataclass(frozen=True)
class StepRecord:
    """Scalars of one optimizer step; ``time`` in Unix seconds, ``flops`` cumulative."""

    step: int
    time: float
    flops: float
    values: dict[str, float]


@dataclass(frozen=True)
class CurvePoint:
    """One measurement after ``flops`` training FLOPs; ``extra`` holds spread, seeds, ..."""

    curve: str
    time: float
    flops: float
    value: float
    extra: dict[str, Any] = field(default_factory=dict)
    within: str | None = None


@dataclass(frozen=True)
class NestedRun:
    """A run within the run, already over, which took ``seconds``.

    ``nested`` identifies it: curve points name it in ``within``. ``inputs`` are ``DataInput``s.
    """

    nested: str
    name: str
    time: float
    seconds: float
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    inputs: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class SystemRecord:
    """How busy the machine ``system`` was; names and units are MLflow's, without its prefix."""

    system: str
    time: float
    measured: dict[str, float]


@dataclass(frozen=True)
class ArtifactRecord:
    """A file to publish; ``artifact`` is its path, relative to the run directory if inside."""

    artifact: str
    time: float

    @classmethod
    def of(cls, run_dir: Path, path: Path) -> Self:
        """Describe the file at ``path``."""
        absolute, root = Path(path).resolve(), run_dir.resolve()
        inside = absolute.is_relative_to(root)
        return cls(str(absolute.relative_to(root) if inside else absolute), now())


@dataclass(frozen=True)
class EventRecord:
    """What befell optimizer step ``at`` and the ``action`` taken; numbers in ``facts``."""

    event: str
    action: str
    at: int
    time: float
    facts: dict[str, float]


Record = StepRecord | CurvePoint | NestedRun | SystemRecord | ArtifactRecord | EventRecord
KINDS: dict[str, type[Record]] = {
    "event": EventRecord,
    "nested": NestedRun,
    "system": SystemRecord,
    "step": StepRecord,
    "curve": CurvePoint,
    "artifact": ArtifactRecord,
}


class MetricsLog:
    """Append-only writer of one ``metrics.jsonl``; each record is one ``write`` system call.

    A killed process therefore loses at most the line it was writing, which the next opening
    drops. ``sync`` makes the file survive a power failure too.
    """

    def __init__(self, path: Path, *, resume_step: int | None = None) -> None:
        """Open ``path`` for appending; with ``resume_step`` forget what came after that step."""
        self.path = path
        repair(path)
        if resume_step is not None:
            rewind(path, resume_step)
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - lives as long as the run

    def append(self, record: Record) -> None:
        """Write one record; where the disk is too full for it, raise ``OSError`` and leave none."""
        line = encode(record)
        start = self._file.seek(0, os.SEEK_END)
        try:
            while line:  # a disk that fills up takes a part, and refuses the rest
                line = line[self._file.write(line) :]
        except OSError:
            self._file.truncate(start)
            raise

    def rewind(self, step: int) -> None:
        """Forget everything after optimizer step ``step``."""
        self._file.close()
        rewind(self.path, step)
        self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115

    def sync(self) -> None:
        """Force what was written to the disk; to be called before a checkpoint is committed."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; nothing can be appended afterwards."""
        self._file.close()


def now() -> float:
    """Unix seconds, rounded to the millisecond that tracking servers keep."""
    return round(time.time(), 3)


def encode(record: Record) -> bytes:
    """Return the record's line, newline included."""
    entry = _strict(asdict(record))
    if entry.get("within", "") is None:  # most points: they are the run's own
        del entry["within"]
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Record:
    """Return the record of one line; raises ``ValueError`` where the line is not one."""
    entry = json.loads(line)
    if not isinstance(entry, dict):
        raise ValueError("not a JSON object")
    kind = next((KINDS[key] for key in KINDS if key in entry), None)
    if kind is None:
        raise ValueError(f"none of the keys {', '.join(KINDS)}")
    if kind is StepRecord:
        entry["values"] = {name: float(value) for name, value in entry["values"].items()}
    if kind is EventRecord:
        entry["facts"] = {name: float(value) for name, value in entry["facts"].items()}
    if kind is CurvePoint:
        entry["value"] = float(entry["value"])
    try:
        return kind(**entry)
    except TypeError as error:
        raise ValueError(str(error)) from error


def read_records(path: Path) -> Iterator[Record]:
    """Yield the records of ``path`` in order, without a torn last line.

    Raises ``UserError`` naming file and line where a line in the middle is damaged.
    """
    for _, record in _lines(path):
        yield record


def repair(path: Path) -> int:
    """Cut off what a crash left half-written at the end; return the number of bytes dropped.

    A killed writer leaves a line without its newline, a power failure may leave whole blocks
    of zeros: trailing lines are dropped until one can be read.
    """
    size = path.stat().st_size if path.exists() else 0
    if size == 0:
        return 0
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        kept = content.rfind(b"\n") + 1
        while kept:
            start = content.rfind(b"\n", 0, kept - 1) + 1
            if _readable(content[start:kept]):
                break
            kept = start
    if kept < size:
        os.truncate(path, kept)
    return size - kept


def rewind(path: Path, step: int) -> int:
    """Forget everything after optimizer step ``step``; return the number of records dropped.

    Curve points have no step: those beyond the FLOPs of the last kept step go, because the
    training that produced their weights will be repeated.
    """
    if not path.exists():
        return 0
    steps = (r for r in read_records(path) if isinstance(r, StepRecord))
    reached = max((r.flops for r in steps if r.step <= step), default=0.0)
    dropped = sum(not _is_before(record, step, reached) for record in read_records(path))
    if dropped:
        with atomic_write(path) as file:
            file.writelines(line for line, r in _lines(path) if _is_before(r, step, reached))
    return dropped


def _is_before(record: Record, step: int, flops: float) -> bool:
    if isinstance(record, StepRecord):
        return record.step <= step
    if isinstance(record, EventRecord):
        return record.at <= step
    return not isinstance(record, CurvePoint) or record.flops <= flops


def _lines(path: Path) -> Iterator[tuple[bytes, Record]]:
    """Yield the complete lines of ``path``, each with its record; raises as ``read_records``."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                record = decode(line)
            except ValueError as error:
                raise UserError(
                    f"{path}:{number}: not a metrics record ({error}); remove that line"
                ) from error
            yield line, record


def _readable(line: bytes) -> bool:
    try:
        decode(line)
    except ValueError:
        return False
    return True


def _strict(entry: Any) -> Any:
    if isinstance(entry, dict):
        return {key: _strict(value) for key, value in entry.items()}
    if isinstance(entry, list | tuple):
        return [_strict(value) for value in entry]
    if isinstance(entry, float) and not math.isfinite(entry):
        return str(entry)
    return entry
