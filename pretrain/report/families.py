"""Branches of one trunk as one curve on a page, and what that curve costs in two readings."""

from collections.abc import Sequence
from dataclasses import dataclass

from convbert.pretrain.report.runs import Measured, ReportCurve, ReportRun
from convbert.pretrain.report.track import Row, Track
from convbert.pretrain.run.branches import Origin


@dataclass(frozen=True)
class Cost:
    """FLOPs and process hours, which are None where they were not recorded."""

    flops: float
    hours: float | None

    def __add__(self, other: "Cost") -> "Cost":
        unknown = self.hours is None or other.hours is None
        hours = None if unknown else (self.hours or 0.0) + (other.hours or 0.0)
        return Cost(self.flops + other.flops, hours)

    def __sub__(self, other: "Cost") -> "Cost":
        return self + Cost(-other.flops, None if other.hours is None else -other.hours)


@dataclass(frozen=True)
class FamilyRow:
    """A point of the curve. ``full`` is what a run of its length costs: trunk and decay.

    ``added`` is what the point adds to those before it, which share the trunk; ``total`` is the
    sum of these.
    """

    name: str
    origin: Origin
    full: Cost
    added: Cost
    total: Cost
    values: dict[str, Measured]


@dataclass(frozen=True)
class Family:
    """The branches of a trunk by their branching points; ``unfinished`` ones are no points yet."""

    name: str
    rows: list[FamilyRow]
    unfinished: list[str]
    apart: Cost
    """What the points would cost as runs of their own."""


def gather(runs: Sequence[ReportRun]) -> tuple[list[ReportRun], list[Family]]:
    """Put the branches of each trunk together as one run, in the place of the first of them.

    A branch that is alone on the page stays the run that it is.
    """
    shown: list[ReportRun] = []
    families: list[Family] = []
    for run in runs:
        kin = [r for r in runs if run.origin and r.origin and r.origin.family == run.origin.family]
        if len(kin) < 2:
            shown.append(run)
        elif kin[0] is run:
            together, family = _together(kin)
            shown.append(together)
            families.append(family)
    return shown, families


def _together(branches: Sequence[ReportRun]) -> tuple[ReportRun, Family]:
    pairs = [(run, run.origin) for run in branches if run.origin]
    pairs.sort(key=lambda pair: (pair[1].step, pair[1].end))
    runs = [run for run, _ in pairs]
    ended = [(run, origin) for run, origin in pairs if _ended(run, origin)]
    name = f"{pairs[0][1].trunk}, {len(pairs)} branches"
    rows = _rows(ended)
    hours = [row.full.hours for row in rows]
    known = [h for h in hours if h is not None]
    ends = [Row(run.track.at(origin.end_flops, origin.end), {}) for run, origin in ended]
    ends.sort(key=lambda row: row.place.flops)
    track = Track([r.full.flops for r in rows], known if len(known) == len(hours) else None, ends)
    together = ReportRun(
        name,
        runs[0].path,
        _curves(ended),
        track,
        _settings(runs),
        sorted({name for run in runs for name in run.undefined}),
        parts=tuple(run.track for run in runs),
        facts=runs[0].facts,
        begun=min((run.begun for run in runs if run.begun), default=None),
        newest=runs[-1].newest,
    )
    unfinished = [run.name for run, origin in pairs if not _ended(run, origin)]
    apart = sum((row.full for row in rows), Cost(0.0, 0.0))
    return together, Family(name, rows, unfinished, apart)


def _ended(run: ReportRun, origin: Origin) -> bool:
    return bool(run.track.flops) and run.track.flops[-1] >= origin.end_flops * (1 - 1e-9)


def _rows(ended: Sequence[tuple[ReportRun, Origin]]) -> list[FamilyRow]:
    rows: list[FamilyRow] = []
    before, total = Cost(0.0, 0.0), Cost(0.0, 0.0)
    for run, origin in ended:
        full = Cost(origin.end_flops, run.track.hours_at(origin.end_flops))
        added = full - before
        total = total + added
        before = Cost(origin.flops, origin.hours)
        values = {name: point for name in run.curves for point in _end(run, name, origin)}
        rows.append(FamilyRow(run.name, origin, full, added, total, values))
    return rows


def _end(run: ReportRun, measure: str, origin: Origin) -> list[Measured]:
    """Return the point of a measure at the end of the decay, in a list that is else empty."""
    curve = run.curves.get(measure)
    return [p for p in curve.points if p.step == origin.end] if curve else []


def _curves(ended: Sequence[tuple[ReportRun, Origin]]) -> dict[str, ReportCurve]:
    """Join the ends of the branches; of two at the same FLOPs both are points."""
    curves = {}
    for name in sorted({name for run, _ in ended for name in run.curves}):
        own = [run.curves[name] for run, _ in ended if name in run.curves]
        points = [point for run, origin in ended for point in _end(run, name, origin)]
        baseline = next((curve.baseline for curve in own if curve.baseline), None)
        lexical = next((curve.lexical for curve in own if curve.lexical), None)
        if points:
            points.sort(key=lambda point: point.flops)
            decides = any(curve.decides for curve in own)
            curves[name] = ReportCurve(name, points, baseline, decides, lexical)
    return curves


def _settings(runs: Sequence[ReportRun]) -> dict[str, str]:
    """Return the branches' settings, those that differ one after another."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    values = {key: dict.fromkeys(run.settings.get(key, "–") for run in runs) for key in keys}
    return {key: " / ".join(found) for key, found in values.items()}
