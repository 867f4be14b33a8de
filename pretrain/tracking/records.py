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
    what happened to optimizer step ``at`` and what was done about it; for a rollback and a restart
    from an older checkpoint ``at`` to ``facts["step"]`` are the steps that are trained again;
``{"artifact": "report/curve.png", "time": ...}``
    a file of the run directory that belongs on the tracking server.

NaN and infinities are not JSON; they are written as the strings ``"nan"``, ``"inf"``, ``"-inf"``.
"""

import json
import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, TypeAdapter, ValidationError

from convbert.models.faults import first_fault
from convbert.pretrain.run import metric_names

Step = Annotated[int, Field(ge=0, lt=2**63)]
Time = Annotated[float, Field(ge=0, lt=1e11, allow_inf_nan=False)]
Flops = Annotated[float, Field(ge=0, allow_inf_nan=False)]
RESTART, REPEAT = "restart", "repeat"
"""Event and action where a run starts again from a checkpoint before its last logged step."""


@dataclass(frozen=True)
class StepRecord:
    """Scalars of one optimizer step; ``time`` in Unix seconds, ``flops`` cumulative."""

    step: Step
    time: Time
    flops: Flops
    values: dict[str, float]


@dataclass(frozen=True)
class CurvePoint:
    """One measurement after ``flops`` training FLOPs; ``extra`` holds spread, seeds, ..."""

    curve: str
    time: Time
    flops: Flops
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
    time: Time
    seconds: Time
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    inputs: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class SystemRecord:
    """How busy the machine ``system`` was; names and units are MLflow's, without its prefix."""

    system: str
    time: Time
    measured: dict[str, float]


@dataclass(frozen=True)
class ArtifactRecord:
    """A file to publish; ``artifact`` is its path, relative to the run directory if inside it."""

    artifact: str
    time: Time

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
    at: Step
    time: Time
    facts: dict[str, float]

    @property
    def repeats(self) -> bool:
        """Whether the steps from ``at`` to ``facts["step"]`` are trained again."""
        return self.action in ("rollback", REPEAT) and math.isfinite(
            self.facts.get("step", math.nan)
        )


MetricsRecord = StepRecord | CurvePoint | NestedRun | SystemRecord | ArtifactRecord | EventRecord
_TYPES: dict[str, type[MetricsRecord]] = {  # by the first key of a line
    "event": EventRecord,
    "nested": NestedRun,
    "system": SystemRecord,
    "step": StepRecord,
    "curve": CurvePoint,
    "artifact": ArtifactRecord,
}
_ADAPTERS: dict[type, TypeAdapter[Any]] = {kind: TypeAdapter(kind) for kind in _TYPES.values()}


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
    try:
        entry = json.loads(line)
    except RecursionError:
        raise ValueError("lists in lists without end") from None
    if not isinstance(entry, dict):
        raise ValueError("not a JSON object")
    key = next((key for key in _TYPES if key in entry), None)
    if key is None:
        raise ValueError(f"none of the keys {', '.join(_TYPES)}")
    kind = _TYPES[key]
    if unknown := entry.keys() - {known.name for known in fields(kind)}:
        raise ValueError(f"unknown key {min(unknown)!r}")
    try:
        return _ADAPTERS[kind].validate_python(entry)
    except ValidationError as error:
        raise ValueError(first_fault(error)) from None


def _strict(entry: Any) -> Any:
    """Replace NaN and infinities, which are not JSON, by their names."""
    if isinstance(entry, dict):
        return {key: _strict(value) for key, value in entry.items()}
    if isinstance(entry, list | tuple):
        return [_strict(value) for value in entry]
    if isinstance(entry, float) and not math.isfinite(entry):
        return str(entry)
    return entry
