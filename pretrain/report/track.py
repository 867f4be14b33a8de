"""What a run measured while it trained, thinned to what a page can draw."""

import math
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from convbert.pretrain.run import metric_names
from convbert.pretrain.run.branches import Origin
from convbert.pretrain.tracking.records import StepRecord

BINS = 400
"""The most points of a training metric that a page draws; each is the mean of its share."""


@dataclass(frozen=True)
class Place:
    """How far a training was, in all that a page can have as its horizontal axis.

    ``hours`` are process hours. What was not recorded is None.
    """

    flops: float
    tokens: float | None = None
    step: float | None = None
    hours: float | None = None


@dataclass(frozen=True)
class Row:
    """Means of the metrics over some updates, up to ``place``; an update may have no finite one."""

    place: Place
    values: dict[str, float]


@dataclass(frozen=True)
class Track:
    """Training FLOPs and process hours of every record, by rising FLOPs, and the thinned rows."""

    flops: Sequence[float]
    hours: Sequence[float] | None
    rows: list[Row] = field(default_factory=list)

    def hours_at(self, flops: float) -> float | None:
        """Return the process hours of the training up to ``flops``, None where not recorded."""
        if self.hours is None or not self.flops or flops > self.flops[-1] * (1 + 1e-9):
            return None
        return _between(self.flops, self.hours, flops)

    def at(self, flops: float, step: int | None = None) -> Place:
        """Return where the training was after ``flops``; ``step`` is given where it is known."""
        reached = [row.place for row in self.rows if row.place.tokens is not None]
        tokens = None
        if reached and flops <= reached[-1].flops * (1 + 1e-9):
            counts = [place.tokens or 0.0 for place in reached]
            tokens = round(_between([place.flops for place in reached], counts, flops))
        return Place(flops, tokens, step, self.hours_at(flops))

    def at_step(self, step: float) -> Place | None:
        """Return where the training was after an update, None beyond what is logged."""
        known = [row.place for row in self.rows if row.place.step is not None]
        if not known or step > (known[-1].step or 0):
            return None
        steps = [place.step or 0.0 for place in known]
        flops = _between(steps, [place.flops for place in known], step)
        return self.at(flops, round(step))


def _between(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    """Return the value at ``x`` of the line through (0, 0) and the points, which rise."""
    behind = bisect_right(xs, x * (1 + 1e-9))
    left = (xs[behind - 1], ys[behind - 1]) if behind else (0.0, 0.0)
    if behind == len(xs):
        return left[1]
    share = (x - left[0]) / (xs[behind] - left[0])
    return left[1] + max(0.0, share) * (ys[behind] - left[1])


class _Bin:
    """The sums of some records that follow each other."""

    def __init__(self) -> None:
        self.records = 0
        self.place = Place(0.0)
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def add(self, place: Place, values: dict[str, float]) -> None:
        self.records += 1
        self.place = place
        for name, value in values.items():
            if math.isfinite(value):  # an update that was left out may have a loss of NaN
                self.sums[name] = self.sums.get(name, 0.0) + value
                self.counts[name] = self.counts.get(name, 0) + 1

    def merge(self, later: "_Bin") -> None:
        self.records += later.records
        self.place = later.place
        for name, value in later.sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + later.counts[name]

    def row(self, trunk: float | None) -> Row:
        """Return the means, with the ``trunk``'s hours before these; None for no hours at all."""
        own = self.place.hours
        hours = None if trunk is None or own is None else trunk + own
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        return Row(replace(self.place, hours=hours), means)


class Thinning:
    """Takes records as they come and keeps at most ``BINS`` means of them.

    Where there would be more, every two become one: what a record costs does not depend on how
    many there were.
    """

    def __init__(self) -> None:
        self._bins: list[_Bin] = []
        self._width = 1  # records in a full bin
        self._flops = array("d")
        self._hours = array("d")
        self._timed = True

    def add(self, record: StepRecord) -> None:
        """Take the next record."""
        values = record.values
        self._flops.append(record.flops)
        seconds, processes = metric_names.STEP_SECONDS, metric_names.PROCESSES
        self._timed = self._timed and seconds in values and processes in values
        if self._timed:
            spent = values[seconds] * values[processes] / 3600
            self._hours.append(spent + (self._hours[-1] if self._hours else 0.0))
        if not self._bins or self._bins[-1].records >= self._width:
            if len(self._bins) == BINS:
                self._halve()
            self._bins.append(_Bin())
        hours = self._hours[-1] if self._timed else None
        place = Place(record.flops, values.get(metric_names.TOKENS), record.step, hours)
        self._bins[-1].add(place, values)

    def _halve(self) -> None:
        for first, second in zip(self._bins[::2], self._bins[1::2], strict=True):
            first.merge(second)
        self._bins = self._bins[::2]
        self._width *= 2

    def track(self, origin: Origin | None) -> Track:
        """Return the track so far; that of a branch begins with what its trunk had cost."""
        trunk = origin.hours if origin else 0.0
        if trunk is None or not self._timed:
            hours, rows = None, [part.row(None) for part in self._bins]
        else:
            hours = [trunk + own for own in self._hours]
            rows = [part.row(trunk) for part in self._bins]
        if origin is None or not rows:
            return Track(self._flops, hours, rows)
        before = None if hours is None else [trunk or 0.0, *hours]
        return Track([origin.flops, *self._flops], before, rows)
