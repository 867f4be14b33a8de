"""Our records as MLflow metrics, and which of these metrics a server does not have yet."""

import math
import sys
from bisect import bisect_right, insort
from collections.abc import Iterable
from typing import Any

from convbert.pretrain.tracking import mlflow_names
from convbert.pretrain.tracking.records import (
    CurvePoint,
    EventRecord,
    MetricsRecord,
    StepRecord,
    SystemRecord,
)

_LARGEST = sys.float_info.max


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
    optimizer steps, system records count milliseconds. What else a curve point says of its value
    (range, seeds) is left in the file: each would be a chart of its own.
    """
    if isinstance(record, StepRecord):
        return record.step, mlflow_names.of_update(record.values, record.flops)
    if isinstance(record, CurvePoint):
        values = {mlflow_names.of_curve(record.curve): record.value}
        return round(record.flops / 1e9), values | {mlflow_names.CURVE_FLOPS: record.flops}
    if isinstance(record, SystemRecord):
        return round(1000 * record.time), {f"system/{key}": v for key, v in record.measured.items()}
    if isinstance(record, EventRecord):
        kind = (record.event, record.action)
        return record.at, {mlflow_names.of_event(*kind, k): v for k, v in record.facts.items()}
    return 0, {}


class SentMetrics:
    """What the server has, asked for when needed, and what was sent since.

    Steps and sampling times rise along the log, so only the highest of each such metric is kept,
    however many updates there are. Points of curves, events and the steps that were trained again
    are compared one by one: MLflow keeps all values of a step, and the newest one is to be ours.
    """

    def __init__(self, client: Any, events: Iterable[EventRecord] = ()) -> None:
        """Ask ``client``; ``events`` say which steps were trained again."""
        self._client = client
        self._again = [(e.at, int(e.facts["step"])) for e in events if e.repeats]
        self._latest: dict[str, dict[str, int]] = {}
        # By run and metric: the values of each step as text, in which NaN equals itself, by time.
        self._values: dict[tuple[str, str], dict[int, list[tuple[int, str]]]] = {}

    def add(self, run_id: str, metric: Any, record: MetricsRecord) -> bool:
        """Return whether a record's metric is new, and count it as sent."""
        rises = isinstance(record, StepRecord | SystemRecord)
        if not rises or (isinstance(record, StepRecord) and self._repeated(metric.step)):
            return self._differs(run_id, metric, whole=not rises)
        latest = self._of(run_id)
        if metric.step <= latest.get(metric.key, -1):
            return False
        latest[metric.key] = metric.step
        return True

    def _repeated(self, step: int) -> bool:
        return any(low <= step <= high for low, high in self._again)

    def _of(self, run_id: str) -> dict[str, int]:
        """Return the highest step of each metric of a run."""
        if run_id not in self._latest:
            found = self._client.get_run(run_id).data.to_proto().metrics
            self._latest[run_id] = {metric.key: metric.step for metric in found}
        return self._latest[run_id]

    def _differs(self, run_id: str, metric: Any, *, whole: bool) -> bool:
        """Return whether the server's newest value of the step, up to now, is another one."""
        place = (run_id, metric.key)
        if place not in self._values:
            self._values[place] = {}
            for found in self._history(run_id, metric.key):
                if whole or self._repeated(found.step):
                    entry = (found.timestamp, _text(found.value))
                    insort(self._values[place].setdefault(found.step, []), entry)
        values = self._values[place].setdefault(metric.step, [])
        ours = (metric.timestamp, _text(metric.value))
        before = bisect_right(values, metric.timestamp, key=lambda entry: entry[0])
        if ours in values or (before and values[before - 1][1] == ours[1]):
            return False
        insort(values, ours)
        return True

    def _history(self, run_id: str, key: str) -> Iterable[Any]:
        """Return what the server has of a metric; nothing is asked about one it does not know."""
        return self._client.get_metric_history(run_id, key) if key in self._of(run_id) else ()


def _text(value: float) -> str:
    """Return a value as the server gives it back: it has no infinities."""
    value = float(value)
    return str(value) if math.isnan(value) else str(max(-_LARGEST, min(_LARGEST, value)))
