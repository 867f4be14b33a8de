"""What an accuracy costs: FLOPs and hours until a curve reaches it, and the Pareto frontier."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from convbert.pretrain.report.runs import ReportCurve
from convbert.pretrain.report.track import Track

_FALLING = ("loss", "perplexity", "entropy")


@dataclass(frozen=True)
class Reach:
    """When a curve first reached a target.

    ``at most`` where its first checkpoint was past it already; ``baseline`` where the model is
    as good without pretraining; ``never`` where no checkpoint got there.
    """

    kind: Literal["about", "at most", "baseline", "never"]
    flops: float = 0.0
    hours: float | None = None


def falls(name: str) -> bool:
    """Return whether a lower value of a measure is better."""
    return any(word in name for word in _FALLING)


def round_targets(curves: Sequence[ReportCurve], count: int = 5) -> list[float]:
    """Return about ``count`` round values that span what the curves' medians cover."""
    values = [p.value for c in curves for p in [*c.points, *([c.baseline] if c.baseline else [])]]
    low, high = min(values), max(values)
    if not high > low:
        return [high]
    rough = (high - low) / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)] or [high]


def reach(curve: ReportCurve, target: float, track: Track) -> Reach:
    """Find the first crossing of ``target`` by the medians.

    Between two checkpoints the measure is taken as a straight line over log FLOPs.
    """
    sign = -1.0 if falls(curve.name) else 1.0
    goal = sign * target
    if curve.baseline is not None and sign * curve.baseline.value >= goal:
        return Reach("baseline", 0.0, 0.0)
    before = None
    for point in curve.points:
        if sign * point.value >= goal:
            if before is None:
                return Reach("at most", point.flops, track.hours_at(point.flops))
            share = (target - before.value) / (point.value - before.value)
            flops = before.flops * (point.flops / before.flops) ** share
            return Reach("about", flops, track.hours_at(flops))
        before = point
    return Reach("never")


def frontier(points: Iterable[tuple[float, float]], *, falling: bool = False) -> list[bool]:
    """Return for each (cost, score) whether it is Pareto-optimal.

    It is where no other point costs no more and scores as well; equal points are all optimal.
    """
    known = [(cost, -score if falling else score) for cost, score in points]
    return [
        not any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in known)
        for cost, score in known
    ]
