"""The records of ``metrics.jsonl``: what a run measured, one JSON object a line.

Six types of line share the file, so that one position in it tells how much was delivered:

``{"step": 50, "time": 1763900000.1, "flops": 3.1e15, "values": {"loss": 9.2}}``
    training: optimizer step, Unix seconds, cumulative training FLOPs, scalars;
``{"curve": "rotten_tomatoes/accuracy", "time": ..., "flops": 3.1e15, "value": 0.71, "extra": {}}``
    one point of an accuracy-against-FLOPs curve; ``"within"`` names the nested run it belongs to;
``{"nested": "4f0c...", "name": "rotten_tomatoes, seed 0", "time": ..., "seconds": 31.0, ...}``
    a run within this one, such as one seed of a fine-tuning: settings, tags and data;
``{"system": "node-7", "time": ..., "measured": {"cpu_utilization_percentage": 97.0}}``
    how busy a machine was;
``{"event": "nan", "action": "skip", "at": 51, "time": ..., "facts": {"loss": "nan", ...}}``
    what happened to optimizer step ``at`` and what was done about it; for a rollback, ``at`` is
    the first step that is trained again;
``{"artifact": "report/curve.png", "time": ...}``
    a file of the run directory that belongs on the tracking server.

NaN and infinities are not JSON; they are written as the strings ``"nan"``, ``"inf"``, ``"-inf"``.
"""

import json
import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from convbert.pretrain.run import metric_names


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
    """A finished run within the run, such as one seed of a fine-tuning, which took ``seconds``.

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
    """A file to publish; ``artifact`` is its path, relative to the run directory if inside it."""

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
    """What happened to optimizer step ``at`` and the ``action`` taken; numbers in ``facts``."""

    event: str
    action: str
    at: int
    time: float
    facts: dict[str, float]


MetricsRecord = StepRecord | CurvePoint | NestedRun | SystemRecord | ArtifactRecord | EventRecord
_TYPES: dict[str, type[MetricsRecord]] = {  # by the first key of a line
    "event": EventRecord,
    "nested": NestedRun,
    "system": SystemRecord,
    "step": StepRecord,
    "curve": CurvePoint,
    "artifact": ArtifactRecord,
}


def process_hours(records: Iterable[StepRecord]) -> list[float] | None:
    """Add up the seconds of updates times their processes; None where a record lacks one of them.

    Returns the hours up to each record, in the order given.
    """
    total, hours = 0.0, []
    for record in records:
        values = record.values
        if metric_names.STEP_SECONDS not in values or metric_names.PROCESSES not in values:
            return None
        total += values[metric_names.STEP_SECONDS] * values[metric_names.PROCESSES] / 3600
        hours.append(total)
    return hours


def now() -> float:
    """Return Unix seconds, rounded to the millisecond that tracking servers keep."""
    return round(time.time(), 3)


def encode(record: MetricsRecord) -> bytes:
    """Return the record's line, newline included."""
    entry = _strict(asdict(record))
    if entry.get("within", "") is None:  # most points: they are the run's own
        del entry["within"]
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> MetricsRecord:
    """Return the record of one line; raises ``ValueError`` if it is not one."""
    entry = json.loads(line)
    if not isinstance(entry, dict):
        raise ValueError("not a JSON object")
    key = next((key for key in _TYPES if key in entry), None)
    if key is None:
        raise ValueError(f"none of the keys {', '.join(_TYPES)}")
    try:
        for name in {"values", "facts"} & entry.keys():
            entry[name] = {n: float(value) for n, value in entry[name].items()}
        if "value" in entry:
            entry["value"] = float(entry["value"])
        return _TYPES[key](**entry)
    except (AttributeError, TypeError) as error:
        raise ValueError(str(error)) from error


def _strict(entry: Any) -> Any:
    """Replace NaN and infinities, which are not JSON, by their names."""
    if isinstance(entry, dict):
        return {key: _strict(value) for key, value in entry.items()}
    if isinstance(entry, list | tuple):
        return [_strict(value) for value in entry]
    if isinstance(entry, float) and not math.isfinite(entry):
        return str(entry)
    return entry
