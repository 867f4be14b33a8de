"""Our records as MLflow metrics, and which of these metrics a server does not have yet."""

from collections.abc import Sequence
from typing import Any

from convbert.pretrain.tracking.records import (
    CurvePoint,
    EventRecord,
    MetricsRecord,
    StepRecord,
    SystemRecord,
)


def as_metrics(record: MetricsRecord) -> list[Any]:
    """Return the MLflow metrics of a record."""
    from mlflow.entities import Metric

    step, values = _scalars(record)
    return [Metric(key, value, int(record.time * 1000), step) for key, value in values.items()]


def _scalars(record: MetricsRecord) -> tuple[int, dict[str, float]]:
    """Return the MLflow step and metrics of a record.

    Training scalars count optimizer steps and carry their cumulative ``flops``; curve points count
    cumulative GFLOPs, which fit MLflow's 64-bit steps up to 9e27 FLOPs, and carry ``curve_flops``.
    MLflow's charts join two metrics by step, so each of the two can be their x axis. Events count
    optimizer steps, system records count milliseconds.
    """
    if isinstance(record, StepRecord):
        return record.step, record.values | {"flops": record.flops}
    if isinstance(record, CurvePoint):
        numbers = {k: float(v) for k, v in record.extra.items() if isinstance(v, int | float)}
        spread = {f"{record.curve}_{key}": value for key, value in numbers.items()}
        values = {record.curve: record.value, "curve_flops": record.flops}
        return round(record.flops / 1e9), values | spread
    if isinstance(record, SystemRecord):
        return round(1000 * record.time), {f"system/{key}": v for key, v in record.measured.items()}
    if isinstance(record, EventRecord):
        name = f"guards/{record.event}_{record.action}"
        return record.at, {f"{name}/{key}": value for key, value in record.facts.items()}
    return 0, {}


class SentMetrics:
    """What the server has, asked for when needed, and what was sent since.

    Steps and sampling times rise along the log, so only the highest of each such metric is kept,
    however many updates there are. Points of curves and events, which are few, are kept one by one.
    """

    def __init__(self, client: Any, rollbacks: Sequence[EventRecord] = ()) -> None:
        """Ask ``client``; steps that a rollback trained again are sent again."""
        self._client = client
        self._rollbacks = rollbacks
        self._latest: dict[str, dict[str, int]] = {}
        # By run and metric: the highest step that was sent from a time on.
        self._reached: dict[tuple[str, str], dict[float, int]] = {}
        # By run and metric: when the server last got this step (of curves: this step and value).
        self._times: dict[tuple[str, str], dict[tuple[int, str | None], int]] = {}

    def add(self, run_id: str, metric: Any, record: MetricsRecord) -> bool:
        """Return whether a record's metric is new, and count it as sent."""
        if isinstance(record, CurvePoint):
            return self._differs(run_id, metric, str(float(metric.value)), 0.0)
        repeated = (e.time for e in self._rollbacks if e.at <= metric.step <= e.facts["step"])
        since_ms = 1000 * max(repeated, default=0.0)
        if isinstance(record, StepRecord | SystemRecord):
            return self._rises(run_id, metric, since_ms)
        return self._differs(run_id, metric, None, since_ms)

    def _rises(self, run_id: str, metric: Any, since_ms: float) -> bool:
        """Return whether the step is higher than all that were sent from ``since_ms`` on."""
        reached = self._reached.setdefault((run_id, metric.key), {})
        if since_ms not in reached:
            reached[since_ms] = self._highest(run_id, metric.key, since_ms)
        if metric.step <= reached[since_ms]:
            return False
        reached[since_ms] = metric.step
        for since in reached:
            if since <= metric.timestamp:
                reached[since] = max(reached[since], metric.step)
        return True

    def _highest(self, run_id: str, key: str, since_ms: float) -> int:
        """Return the highest step that the server has from ``since_ms`` on, -1 for none."""
        if run_id not in self._latest:
            found = self._client.get_run(run_id).data.to_proto().metrics
            self._latest[run_id] = {metric.key: metric.step for metric in found}
        highest = self._latest[run_id].get(key, -1)
        if highest < 0 or since_ms <= 0:
            return highest
        history = self._client.get_metric_history(run_id, key)
        return max((m.step for m in history if m.timestamp >= since_ms), default=-1)

    def _differs(self, run_id: str, metric: Any, value: str | None, since_ms: float) -> bool:
        """Return whether no such step, and ``value`` of a curve, was sent from ``since_ms`` on."""
        place = (run_id, metric.key)
        if place not in self._times:
            history = self._client.get_metric_history(run_id, metric.key)
            # As text, in which NaN equals itself.
            self._times[place] = {
                (m.step, None if value is None else str(float(m.value))): m.timestamp
                for m in sorted(history, key=lambda m: m.timestamp)
            }
        sent = self._times[place].get((metric.step, value))
        if sent is not None and sent >= since_ms:
            return False
        self._times[place][metric.step, value] = metric.timestamp
        return True
