"""What a page shows of one run, read from its directory: curves, losses, speed, settings."""

import contextlib
import math
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import BaseModel

from convbert.models.errors import AbsentError
from convbert.models.schema import read_mapping, read_record, validate
from convbert.pretrain.report.log import LogReader
from convbert.pretrain.report.track import Track
from convbert.pretrain.run.branches import Origin, read_origin
from convbert.pretrain.run.checkpoint_manifest import (
    MANIFEST,
    checkpoint_directory,
    checkpoint_steps,
)
from convbert.pretrain.run.curve import Curve, Level, Spread
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.run.facts import Facts, read_facts
from convbert.pretrain.tracking.metrics_log import FILE_NAME
from convbert.pretrain.tracking.records import CurvePoint, EventRecord, StepRecord, SystemRecord
from convbert.pretrain.tracking.tracked_run import flatten


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
class ReportRun:
    """What a page shows of one run, or of several branches as one: ``parts`` are their tracks.

    ``undefined`` names measures without any value. ``saved`` are the checkpoints that are kept,
    by step, with the Unix seconds at which each was written.
    """

    name: str
    path: Path
    curves: dict[str, ReportCurve]
    track: Track
    settings: dict[str, str]
    undefined: list[str]
    origin: Origin | None = None
    parts: tuple[Track, ...] = ()
    facts: Facts | None = None
    begun: float | None = None
    newest: StepRecord | None = None
    events: list[EventRecord] = field(default_factory=list)
    machines: list[SystemRecord] = field(default_factory=list)
    saved: dict[int, float] = field(default_factory=dict)

    @property
    def steps(self) -> int | None:
        """The updates that the run shall have, None for several branches."""
        text = self.settings.get("steps", "")
        return int(text) if text.isdecimal() else None

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The tracks between which no line is drawn."""
        return self.parts or (self.track,)


class RunReader:
    """Reads a run directory again and again, of its log only what is new."""

    def __init__(self, path: Path) -> None:
        """Read nothing yet; raises ``AbsentError`` where no run is."""
        self.run = RunDirectory(path)
        self.run.require_run()
        self.log = LogReader(path / FILE_NAME)

    def read(self) -> ReportRun:
        """Return what the directory says now; raises ``UserError`` for what is damaged in it."""
        run, path, log = self.run, self.run.path, self.log
        log.read()
        found = _logged(log.points, log.path) | _published(run.report)
        curves = {name: _defined(curve) for name, curve in found.items()}
        curves = {name: curve for name, curve in curves.items() if curve.points}
        origin = read_origin(path)
        return ReportRun(
            run.name,
            path,
            curves,
            log.updates.track(origin),
            _settings(run),
            sorted(found.keys() - curves.keys()),
            origin,
            facts=read_facts(path),
            begun=log.begun,
            newest=log.newest,
            events=list(log.events),
            machines=list(log.machines.values()),
            saved=_saved(run),
        )


def read_run(path: Path) -> ReportRun:
    """Read a run directory; raises ``UserError`` where it is none or holds nothing to show."""
    run = RunReader(path).read()
    if not run.curves and not run.undefined and not run.track.flops:
        raise AbsentError(
            f"{path}: no curve in report/ and nothing in {FILE_NAME} yet; train the run, then "
            f"`convbert finetune {path} --task TASK`"
        )
    return run


def _saved(run: RunDirectory) -> dict[int, float]:
    saved = {}
    for step in checkpoint_steps(run.checkpoints):
        with contextlib.suppress(OSError):  # one that retention has just removed
            place = checkpoint_directory(run.checkpoints, step) / MANIFEST
            saved[step] = place.stat().st_mtime
    return saved


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


def differing(runs: list[ReportRun]) -> list[tuple[str, list[str | None]]]:
    """Return the settings in which the runs differ: key and a value (or None) for each run."""
    keys = sorted(set().union(*(run.settings for run in runs)))
    rows = [(key, [run.settings.get(key) for run in runs]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]
