"""Our records and descriptions as MLflow has them, and the questions asked of a server.

MLflow is imported inside the functions, which only the delivering thread and commands call.
"""

import getpass
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convbert.pretrain.tracking.metrics_log import (
    CurvePoint,
    EventRecord,
    Record,
    StepRecord,
    SystemRecord,
)
from convbert.pretrain.tracking.tracked_run import DataInput

SQLITE = "sqlite:///"
RUN_TAG = "convbert.run"
PARENT_TAG = "mlflow.parentRunId"
CONTEXT_TAG = "mlflow.data.context"
TRAINING = {"mlflow.experimentKind": "custom_model_development"}
"""Tag of an experiment for which the UI offers training runs, not language-model traces."""
BATCH_PARAMS = 100
DIGEST_CHARACTERS = 36  # the longest dataset digest that MLflow takes; the profile has it whole


def scalars(record: Record) -> tuple[int, dict[str, float]]:
    """Return the MLflow step and metrics of a record.

    Training scalars count optimizer steps and carry their cumulative ``flops``; curve points count
    cumulative GFLOPs, which fit MLflow's 64-bit steps up to 9e27 FLOPs, and carry ``curve_flops``.
    MLflow's charts join two metrics by step, so each of the two can be their x axis. Events count
    optimizer steps, what a machine does counts milliseconds.
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


def as_metrics(record: Record) -> list[Any]:
    """Return the MLflow metrics of a record."""
    from mlflow.entities import Metric

    step, values = scalars(record)
    return [Metric(key, value, int(record.time * 1000), step) for key, value in values.items()]


class Seen:
    """What the server has, asked when needed, and what was sent since.

    Steps and a machine's times rise along the log, so of each such metric the highest is kept,
    however many updates there are. Points of curves and events, which are few, are kept one by one.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._latest: dict[str, dict[str, int]] = {}
        # By run and metric: the highest step that was sent from a time on.
        self._reached: dict[tuple[str, str], dict[float, int]] = {}
        # By run and metric: when the server last got this step (of curves: this step and value).
        self._times: dict[tuple[str, str], dict[tuple[int, str | None], int]] = {}

    def adds(self, run_id: str, metric: Any, record: Record, since_ms: float) -> bool:
        """Tell whether a record's metric is new, and take it as sent.

        What was sent before ``since_ms`` does not count.
        """
        if isinstance(record, StepRecord | SystemRecord):
            return self._rises(run_id, metric, since_ms)
        return self._differs(run_id, metric, isinstance(record, CurvePoint), since_ms)

    def _rises(self, run_id: str, metric: Any, since_ms: float) -> bool:
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
        """Return the highest step that the server has, -1 for none."""
        if run_id not in self._latest:
            found = self._client.get_run(run_id).data.to_proto().metrics
            self._latest[run_id] = {metric.key: metric.step for metric in found}
        highest = self._latest[run_id].get(key, -1)
        if highest < 0 or since_ms <= 0:
            return highest
        history = self._client.get_metric_history(run_id, key)
        return max((m.step for m in history if m.timestamp >= since_ms), default=-1)

    def _differs(self, run_id: str, metric: Any, valued: bool, since_ms: float) -> bool:
        place = (run_id, metric.key)
        if place not in self._times:
            history = self._client.get_metric_history(run_id, metric.key)
            self._times[place] = {
                _entry(m, valued): m.timestamp for m in sorted(history, key=lambda m: m.timestamp)
            }
        entry = _entry(metric, valued)
        sent = self._times[place].get(entry)
        if sent is not None and sent >= since_ms:
            return False
        self._times[place][entry] = metric.timestamp
        return True


def _entry(metric: Any, valued: bool) -> tuple[int, str | None]:
    return metric.step, str(float(metric.value)) if valued else None  # NaN equals itself so


def find_run(client: Any, experiment_id: str, key: str) -> Any | None:
    """Return the run that this side named ``key`` before the server knew of it, if there is one."""
    found = client.search_runs([experiment_id], f"tags.`{RUN_TAG}` = '{key}'")
    return found[0] if found else None


def create_run(
    client: Any,
    experiment_id: str,
    key: str,
    name: str,
    tags: Mapping[str, str],
    start_ms: int | None = None,
) -> Any:
    """Create a run that ``find_run`` finds."""
    ours = {RUN_TAG: key, "mlflow.user": _user(), "mlflow.source.name": "convbert"}
    return client.create_run(
        experiment_id, start_time=start_ms, run_name=name, tags=ours | dict(tags)
    )


def describe(
    client: Any,
    run: Any,
    params: Mapping[str, str],
    tags: Mapping[str, str],
    inputs: Sequence[DataInput],
) -> None:
    """Send what a run does not have yet; MLflow itself keeps each input once."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag

    run_id = run.info.run_id
    new_params = [Param(k, v) for k, v in params.items() if k not in run.data.params]
    new_tags = [RunTag(k, v) for k, v in tags.items() if run.data.tags.get(k) != v]
    for start in range(0, max(len(new_params), len(new_tags)), BATCH_PARAMS):
        part = slice(start, start + BATCH_PARAMS)
        client.log_batch(run_id, params=new_params[part], tags=new_tags[part])
    if inputs:
        client.log_inputs(
            run_id,
            [
                DatasetInput(
                    Dataset(
                        name=entry.name,
                        digest=entry.digest[:DIGEST_CHARACTERS],
                        source_type="http" if "://" in entry.source else "local",
                        source=json.dumps({"uri": entry.source}),
                        profile=json.dumps({**entry.profile, "digest": entry.digest}),
                    ),
                    [InputTag(CONTEXT_TAG, entry.context)],
                )
                for entry in inputs
            ],
        )


def artifact_location(tracking_uri: str) -> str | None:
    """Return where a new experiment keeps files: beside a SQLite file, else as the server says."""
    if not tracking_uri.startswith(SQLITE):
        return None
    return (Path(tracking_uri.removeprefix(SQLITE)).parent / "mlartifacts").as_uri()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"
