"""What a report shows of one run, read from its directory: curves, losses, speed, settings."""

import math
from bisect import bisect_right
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from convbert.models.errors import AbsentError
from convbert.models.schema import read_mapping, read_record, validate
from convbert.pretrain.run import metric_names
from convbert.pretrain.run.branches import Origin, read_origin
from convbert.pretrain.run.curve import Curve, Level, Spread
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.tracking.metrics_log import FILE_NAME, read_records
from convbert.pretrain.tracking.records import CurvePoint, StepRecord, process_hours
from convbert.pretrain.tracking.tracked_run import flatten

BINS = 400
"""The most points of a training metric that a page draws; each is the mean of its share."""

SHOWN = {
    metric_names.LOSS_TOTAL: "training loss",
    metric_names.TOKENS_PER_SECOND: "tokens per second",
}
"""Training metrics on the page, and what they are called there."""

_USED = (*SHOWN, metric_names.STEP_SECONDS, metric_names.PROCESSES)


@dataclass(frozen=True)
class Measured:
    """A measure after ``flops`` training FLOPs; ``low`` to ``high`` is the range of the seeds."""

    flops: float
    value: float
    low: float
    high: float
    seeds: int
    step: int | None


@dataclass(frozen=True)
class ReportCurve:
    """One measure of a run by rising FLOPs; ``decides`` for the measure a task is judged by.

    ``baseline`` is the model without pretraining, ``lexical`` a baseline that sees only words.
    """

    name: str
    points: list[Measured]
    baseline: Measured | None
    decides: bool
    lexical: Level | None = None


@dataclass(frozen=True)
class Track:
    """Training metrics by rising FLOPs, and the process hours spent up to each record."""

    flops: list[float]
    hours: list[float] | None
    metrics: dict[str, list[tuple[float, float]]]

    def hours_at(self, flops: float) -> float | None:
        """Return the process hours of the training up to ``flops``, None where not recorded."""
        if self.hours is None or not self.flops or flops > self.flops[-1] * (1 + 1e-9):
            return None
        behind = bisect_right(self.flops, flops * (1 + 1e-9))
        left = (self.flops[behind - 1], self.hours[behind - 1]) if behind else (0.0, 0.0)
        if behind == len(self.flops):
            return left[1]
        share = (flops - left[0]) / (self.flops[behind] - left[0])
        return left[1] + max(0.0, share) * (self.hours[behind] - left[1])


@dataclass(frozen=True)
class ReportRun:
    """What a page shows of one run, or of several branches as one: ``parts`` are their tracks.

    ``undefined`` names measures without any value.
    """

    name: str
    path: Path
    curves: dict[str, ReportCurve]
    track: Track
    settings: dict[str, str]
    undefined: list[str]
    origin: Origin | None = None
    parts: tuple[Track, ...] = ()


def read_run(path: Path) -> ReportRun:
    """Read a run directory; raises ``UserError`` where it is none or holds nothing to show."""
    run = RunDirectory(path)
    if not run.config_file.is_file():
        raise AbsentError(f"{path}: not a run directory (no config.yaml in it)")
    points, steps = _read_log(path / FILE_NAME)
    found = _logged(points, path / FILE_NAME) | _published(run.report)
    curves = {name: _defined(curve) for name, curve in found.items()}
    curves = {name: curve for name, curve in curves.items() if curve.points}
    origin = read_origin(path)
    track = _track(steps, origin)
    if not found and not track.flops:
        raise AbsentError(
            f"{path}: no curve in report/ and nothing in {FILE_NAME} yet; train the run, then "
            f"`convbert finetune {path} --task TASK`"
        )
    undefined = sorted(found.keys() - curves.keys())
    return ReportRun(run.name, path, curves, track, _settings(run), undefined, origin)


def _read_log(path: Path) -> tuple[list[CurvePoint], list[StepRecord]]:
    """Return the run's own curve points, and of the updates only the values that are used here."""
    points, steps = [], []
    for record in read_records(path) if path.is_file() else ():
        if isinstance(record, CurvePoint) and record.within is None:
            points.append(record)
        elif isinstance(record, StepRecord):
            values = {name: record.values[name] for name in _USED if name in record.values}
            steps.append(replace(record, values=values))
    return points, steps


def _settings(run: RunDirectory) -> dict[str, str]:
    config = read_mapping(run.config_file)
    environment = run.path / "environment.json"
    if environment.is_file():
        found = read_mapping(environment)
        config["environment"] = {k: found.get(k) for k in ("code", "packages", "host")}
    return flatten(config)


def _published(folder: Path) -> dict[str, ReportCurve]:
    """Read the curves that fine-tuning left, with the scores of all seeds."""
    curves = {}
    for path in sorted(folder.glob("*/curve.json")):
        remedy = "move it away and fine-tune again"
        curve = read_record(Curve, path, what="a curve", remedy=remedy)
        measured = [
            Measured(p.flops, s.median, s.low, s.high, len(s.scores), p.step)
            for p in sorted(curve.points, key=lambda p: p.flops)
            for s in [p.spread]
        ]
        b = curve.baseline
        baseline = Measured(0.0, b.median, b.low, b.high, len(b.scores), 0)
        name = f"{curve.task}/{curve.metric}"
        curves[name] = ReportCurve(name, measured, baseline, True, curve.lexical)
    return curves


class _Extra(BaseModel):
    """What a page shows of the extras of a curve's point."""

    low: float | None = None
    high: float | None = None
    scores: list[float] = []
    step: int | None = None
    lexical: float | None = None
    lexical_name: str = "words"


def _logged(records: list[CurvePoint], path: Path) -> dict[str, ReportCurve]:
    """Collect the curve points of the log; of two at the same FLOPs the later counts."""
    found: dict[str, dict[float, Measured]] = {}
    lexical: dict[str, Level] = {}
    for record in records:
        place = f"{path}: the point of '{record.curve}' after {record.flops:.4g} FLOPs"
        extra = validate(_Extra, record.extra, place, remedy="remove that line")
        found.setdefault(record.curve, {})[record.flops] = Measured(
            record.flops,
            record.value,
            record.value if extra.low is None else extra.low,
            record.value if extra.high is None else extra.high,
            len(extra.scores) or 1,
            extra.step,
        )
        if extra.lexical is not None:
            level = Level(name=extra.lexical_name, spread=Spread.of([extra.lexical]))
            lexical[record.curve] = level
    curves = {}
    for name, points in sorted(found.items()):
        baseline = points.pop(0.0, None)
        if points:
            ordered = [points[flops] for flops in sorted(points)]
            curves[name] = ReportCurve(name, ordered, baseline, False, lexical.get(name))
    return curves


def _defined(curve: ReportCurve) -> ReportCurve:
    """Leave out what is not a number: of a run that diverged, or undefined on its rows."""
    baseline = curve.baseline
    return replace(
        curve,
        points=[p for p in curve.points if math.isfinite(p.value)],
        baseline=baseline if baseline and math.isfinite(baseline.value) else None,
        lexical=curve.lexical if curve.lexical and curve.lexical.spread.defined else None,
    )


def _track(records: list[StepRecord], origin: Origin | None) -> Track:
    """Return the track of a run; that of a branch begins with what its trunk had cost."""
    records = sorted(records, key=lambda r: r.flops)
    flops, hours = [r.flops for r in records], process_hours(records)
    if origin and records:
        known = origin.hours is not None and hours is not None
        trunk = origin.hours or 0.0
        flops = [origin.flops, *flops]
        hours = [trunk, *(trunk + own for own in hours or [])] if known else None
    return Track(flops, hours, {name: _thinned(records, name) for name in SHOWN})


def _thinned(records: list[StepRecord], name: str) -> list[tuple[float, float]]:
    """Return at most ``BINS`` means; an update that was left out may have a loss of NaN."""
    logged = [(r.flops, r.values[name]) for r in records if name in r.values]
    present = [(flops, value) for flops, value in logged if math.isfinite(value)]
    share = -(-len(present) // BINS)
    parts = [present[start : start + share] for start in range(0, len(present), share or 1)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]


def differing(runs: list[ReportRun]) -> list[tuple[str, list[Any]]]:
    """Return the settings in which the runs differ: key and a value (or None) for each run."""
    keys = sorted(set().union(*(run.settings for run in runs)))
    rows = [(key, [run.settings.get(key) for run in runs]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]
