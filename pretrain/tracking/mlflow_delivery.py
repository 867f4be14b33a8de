"""Delivery of ``metrics.jsonl`` to MLflow: every record exactly once, whenever the server is up.

What makes it exact: the run is found by a tag that this side chose before the server knew of it;
the position in the file is stored after each batch; and after anything unclear (a start, a
failed request) each metric is first looked up in what the server already has.
MLflow is imported on the delivering thread only, because that takes seconds.
"""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convbert.data_pipeline.atomic import atomic_write
from convbert.pretrain.tracking.metrics_log import (
    FILE_NAME,
    ArtifactRecord,
    CurvePoint,
    EventRecord,
    Record,
    StepRecord,
    decode,
    read_records,
)
from convbert.pretrain.tracking.tracked_run import RunState, TrackedRun

CURSOR_FILE = "mlflow_cursor.json"
SQLITE = "sqlite:///"
RUN_TAG = "convbert.run"
BATCH_METRICS = 1000  # the most that MLflow takes in one request
BATCH_PARAMS = 100
READ_BYTES = 1 << 18

# The thread retries by itself, so a request may fail early; values set by the user win.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}

logger = logging.getLogger(__name__)


class Delivery:
    """Ships the undelivered part of one run's file; raises whatever MLflow raises."""

    def __init__(self, run_dir: Path, run: TrackedRun, *, rewound: bool = False) -> None:
        """Continue at the stored position, or from the start of a file that was ``rewound``."""
        self.run = run
        self._run_dir = run_dir
        self._cursor = run_dir / CURSOR_FILE
        self._client: Any = None
        # By metric: when the server last got this step (of curves: this step with this value).
        self._seen: dict[str, dict[tuple[int, float | None], int]] = {}
        self._rollbacks: list[EventRecord] = []
        if rewound:
            self.rewind()

    def rewind(self) -> None:
        """Start again from the beginning of the file, which lost lines."""
        self._save_offset(0)
        self._client, self._seen = None, {}

    def deliver(self) -> int:
        """Send every complete line not sent yet; return the number of metrics that were new."""
        try:
            if self._client is None:
                self._client = self._connect()
                self._rollbacks = self._find_rollbacks()
            sent = 0
            for records, end in self._pending():
                sent += self._send(records)
                self._save_offset(end)
            return sent
        except Exception:
            # The failed request may have been carried out: look everything up again.
            self._client, self._seen = None, {}
            raise

    def finish(self) -> None:
        """Tell MLflow how the run ended; to be called after ``deliver``."""
        state = self.run.state
        self._client.set_terminated(state.run_id, state.status, state.ended_ms)

    def _connect(self) -> Any:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient
        from mlflow.entities import Param, RunTag

        state = self.run.state
        client = MlflowClient(state.tracking_uri)
        run = self._find_or_create(client, state)
        if run.info.run_id != state.run_id:
            self.run.update(run_id=run.info.run_id)
            self._save_offset(0)
        if state.status == "RUNNING" and run.info.status != "RUNNING":
            client.update_run(run.info.run_id, status="RUNNING")
        params = [Param(k, v) for k, v in state.params.items() if k not in run.data.params]
        tags = [RunTag(k, v) for k, v in state.tags.items() if run.data.tags.get(k) != v]
        for start in range(0, max(len(params), len(tags)), BATCH_PARAMS):
            part = slice(start, start + BATCH_PARAMS)
            client.log_batch(run.info.run_id, params=params[part], tags=tags[part])
        return client

    def _find_or_create(self, client: Any, state: RunState) -> Any:
        experiment = client.get_experiment_by_name(state.experiment)
        if experiment is None:
            location = artifact_location(state.tracking_uri)
            experiment_id = client.create_experiment(state.experiment, artifact_location=location)
        else:
            experiment_id = experiment.experiment_id
        found = client.search_runs([experiment_id], f"tags.`{RUN_TAG}` = '{state.key}'")
        if found:
            return found[0]
        return client.create_run(
            experiment_id, run_name=state.run_name, tags={RUN_TAG: state.key} | state.tags
        )

    def _pending(self) -> Iterator[tuple[list[Record], int]]:
        """Yield runs of undelivered records, each with the file position behind it."""
        path = self._run_dir / FILE_NAME
        offset = self._load_offset()
        if offset > path.stat().st_size:  # a power failure took lines that had been delivered
            offset = 0
        with open(path, "rb") as file:
            file.seek(offset)
            while lines := file.readlines(READ_BYTES):
                if not lines[-1].endswith(b"\n"):
                    lines.pop()
                    if not lines:
                        return
                offset += sum(map(len, lines))
                yield [decode(line) for line in lines], offset

    def _send(self, records: list[Record]) -> int:
        run_id = self.run.state.run_id
        fresh = [m for record in records for m in self._metrics(record) if self._is_new(m, record)]
        for start in range(0, len(fresh), BATCH_METRICS):
            self._client.log_batch(run_id, metrics=fresh[start : start + BATCH_METRICS])
        for record in records:
            if isinstance(record, ArtifactRecord):
                self._send_artifact(record)
        return len(fresh)

    def _metrics(self, record: Record) -> list[Any]:
        from mlflow.entities import Metric

        step, values = scalars(record)
        return [Metric(key, value, int(record.time * 1000), step) for key, value in values.items()]

    def _find_rollbacks(self) -> list[EventRecord]:
        path = self._run_dir / FILE_NAME
        events = (r for r in read_records(path) if isinstance(r, EventRecord))
        return [event for event in events if event.action == "rollback"]

    def _is_new(self, metric: Any, record: Record) -> bool:
        """Compare with the server by step; curves may be measured again, so by value too.

        Steps trained again after a rollback are new although the server has the abandoned ones.
        """
        valued = isinstance(record, CurvePoint)
        if metric.key not in self._seen:
            history = self._client.get_metric_history(self.run.state.run_id, metric.key)
            self._seen[metric.key] = {}
            for m in sorted(history, key=lambda m: m.timestamp):
                self._seen[metric.key][m.step, m.value if valued else None] = m.timestamp
        since = [
            e.time for e in self._rollbacks if not valued and e.at <= metric.step <= e.facts["step"]
        ]
        sent = self._seen[metric.key].get((metric.step, metric.value if valued else None))
        return sent is None or sent < 1000 * max(since, default=0.0)

    def _send_artifact(self, record: ArtifactRecord) -> None:
        path = self._run_dir / record.artifact
        if not path.exists():
            logger.warning("%s no longer exists and is not sent to MLflow", path)
            return
        inside = not Path(record.artifact).is_absolute()
        parent = str(Path(record.artifact).parent) if inside else "."
        send = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        target = str(Path(parent) / path.name) if path.is_dir() else parent
        send(self.run.state.run_id, str(path), None if target == "." else target)

    def _load_offset(self) -> int:
        return int(json.loads(self._cursor.read_bytes())["offset"]) if self._cursor.exists() else 0

    def _save_offset(self, offset: int) -> None:
        with atomic_write(self._cursor) as file:
            file.write(json.dumps({"offset": offset}).encode())


def scalars(record: Record) -> tuple[int, dict[str, float]]:
    """Return the MLflow step and metrics of a record.

    Training scalars count optimizer steps and carry their cumulative ``flops``, so that a chart
    can take either as its x axis; curve points count cumulative GFLOPs, which fit MLflow's
    64-bit steps up to 9e27 FLOPs. Events count optimizer steps.
    """
    if isinstance(record, StepRecord):
        return record.step, record.values | {"flops": record.flops}
    if isinstance(record, CurvePoint):
        numbers = {k: float(v) for k, v in record.extra.items() if isinstance(v, int | float)}
        spread = {f"{record.curve}_{key}": value for key, value in numbers.items()}
        return round(record.flops / 1e9), {record.curve: record.value} | spread
    if isinstance(record, EventRecord):
        name = f"guards/{record.event}_{record.action}"
        return record.at, {f"{name}/{key}": value for key, value in record.facts.items()}
    return 0, {}


def artifact_location(tracking_uri: str) -> str | None:
    """Return where a new experiment keeps files: beside a SQLite file, else as the server says."""
    if not tracking_uri.startswith(SQLITE):
        return None
    return (Path(tracking_uri.removeprefix(SQLITE)).parent / "mlartifacts").as_uri()
