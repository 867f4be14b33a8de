"""Turn finished updates into metrics."""

from collections import Counter
from dataclasses import dataclass

from convbert.pretrain.engine.engine import Engine
from convbert.pretrain.engine.norms import PartNorms
from convbert.pretrain.guards.judge import Judge
from convbert.pretrain.objective.losses import summarize
from convbert.pretrain.run import metric_names
from convbert.pretrain.run.timeline import Timeline
from convbert.pretrain.tracking.tracker import Tracker
from convbert.pretrain.training.throughput import Meter
from convbert.pretrain.training.totals import Totals


@dataclass(frozen=True)
class Row:
    """What one update did; ``step`` counts it, ``batch`` is the number of its global batch.

    ``temperature`` is that of the generator's samples.
    """

    step: int
    batch: int
    totals: Totals
    applied: bool
    temperature: float


class Reporter:
    """Collects the updates since the last report, and means since the last checkpoint."""

    def __init__(
        self, timeline: Timeline, engine: Engine, norms: PartNorms, judge: Judge, peak: float
    ) -> None:
        """Read metrics from these; ``peak`` is the FLOP/s that one process can reach."""
        self._timeline = timeline
        self._engine = engine
        self.norms = norms
        self._judge = judge
        self._meter = Meter(engine.stopwatch, engine.device, peak)
        self._rows: list[Row] = []
        self._sums: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()

    def start(self) -> None:
        """Begin to measure speed."""
        self._meter.start()

    def expect(self, *, reported: bool) -> None:
        """Measure the norms of the coming update if it is the last one of a report."""
        self.norms.wanted = reported

    def add(self, row: Row) -> None:
        """Add a finished update to the coming report."""
        self._rows.append(row)

    def forget(self) -> None:
        """Drop what was not reported yet, because the run went back to a checkpoint."""
        self._rows = []
        self._sums, self._counts = Counter(), Counter()

    def take_means(self) -> dict[str, float]:
        """Return the means over the applied updates since the last call that measured each."""
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = Counter(), Counter()
        return means

    def write(self, tracker: Tracker) -> dict[str, float]:
        """Log every update since the last report; return the metrics of the last one, if any.

        Every process must call it.
        """
        rows, self._rows = self._rows, []
        if not rows:
            return {}
        tokens = sum(row.totals.sums["rtd_tokens"] for row in rows)
        flops = [self._timeline.flops(s, "hardware") for s in (rows[0].step - 1, rows[-1].step)]
        speed = self._meter.read(len(rows), tokens, flops[1] - flops[0])
        values: dict[str, float] = {}
        for row in rows:
            values = self._values(row) | speed
            if row is rows[-1]:
                values |= self.norms.read(row.totals.norm)
            tracker.log(row.step, self._timeline.flops(row.step), values)
            if row.applied:
                self._sums.update(values)
                self._counts.update(values.keys())
        return values

    def _values(self, row: Row) -> dict[str, float]:
        sums = row.totals.sums
        return summarize(sums) | {
            metric_names.GENERATOR_MASKED_RATE: sums["mlm_slots"] / max(1.0, sums["rtd_tokens"]),
            metric_names.GENERATOR_TEMPERATURE: row.temperature,
            metric_names.LOSS_TOTAL: row.totals.loss,
            metric_names.GRADIENT_NORM: row.totals.norm,
            metric_names.LEARNING_RATE: self._timeline.learning_rate(row.step - 1),
            metric_names.LOSS_SCALE: self._engine.loss_scale.value,
            metric_names.LEFT_OUT: float(self._judge.left_out),
            metric_names.FIRST_SEQUENCE: float(self._timeline.positions(row.batch)[0]),
            metric_names.FLOPS_ELECTRA: self._timeline.flops(row.step),
            metric_names.FLOPS_HARDWARE: self._timeline.flops(row.step, "hardware"),
            metric_names.TOKENS: float(self._timeline.tokens(row.step)),
        }
