"""Delivery of ``metrics.jsonl`` to MLflow: every record exactly once, whenever the server is up.

What makes it exact: the run is found by a tag that this side chose before the server knew of it;
the position in the file is stored after each batch; and after anything unclear (a start, a
failed request) each metric is first looked up in what the server already has. A file that cannot
be delivered is noted beside that position and tried again later; metrics do not wait for it.
MLflow is imported on the delivering thread only, because that takes seconds.
"""

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from convbert.data_pipeline.atomic import atomic_write
from convbert.pretrain.tracking.metrics_log import FILE_NAME, lines, read_records
from convbert.pretrain.tracking.mlflow_artifacts import require_served, unservable
from convbert.pretrain.tracking.mlflow_branches import Trunk
from convbert.pretrain.tracking.mlflow_metrics import SentMetrics, as_metrics
from convbert.pretrain.tracking.mlflow_notes import Told
from convbert.pretrain.tracking.mlflow_pages import present
from convbert.pretrain.tracking.mlflow_runs import (
    BATCH_METRICS,
    PARENT_TAG,
    current_run,
    describe,
    find_or_create_experiment,
    find_or_create_run,
)
from convbert.pretrain.tracking.mlflow_store import open_store
from convbert.pretrain.tracking.records import (
    ArtifactRecord,
    CurvePoint,
    EventRecord,
    MetricsRecord,
    NestedRun,
    decode,
)
from convbert.pretrain.tracking.tracked_run import DataInput, TrackedRun

CURSOR_FILE = "mlflow_cursor.json"
READ_BYTES = 1 << 18
RETRY_SECONDS = 600.0  # between attempts at files that were set aside, and new descriptions

# The thread retries by itself, so a request may fail early; values set by the user win.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

logger = logging.getLogger(__name__)


class _Stored(BaseModel):
    """How far the delivery came: what the cursor file holds."""

    offset: int = Field(ge=0)
    set_aside: dict[str, str] = {}


class Delivery:
    """Sends the undelivered part of one run's file; raises whatever MLflow raises."""

    def __init__(self, run_dir: Path, run: TrackedRun, *, rewound: bool = False) -> None:
        """Continue at the stored position, or at the start if the file has been ``rewound``."""
        self.run = run
        self._run_dir = run_dir
        self._cursor = run_dir / CURSOR_FILE
        self._offset = 0
        self.set_aside: dict[str, str] = {}
        """Files that could not be delivered yet, and why."""
        self._tried = time.monotonic()
        with contextlib.suppress(OSError, ValidationError):  # then everything is looked up
            stored = _Stored.model_validate_json(self._cursor.read_bytes())
            self._offset, self.set_aside = stored.offset, dict(stored.set_aside)
        self._client: Any = None  # None: connect first
        self._experiment = ""
        self._sent = SentMetrics(None)
        self._nested: dict[str, str] = {}  # ids on the server by our keys
        self._trunk = Trunk(run_dir)
        self._told = Told()  # by the records before the offset
        self._undescribed: str | None = None
        if rewound:
            self.rewind()

    def rewind(self) -> None:
        """Start again at the beginning of the file, from which lines were dropped."""
        self._save(offset=0)
        self._client = None

    def deliver(self) -> int:
        """Send every complete line not sent yet; return the number of metrics that were new."""
        return sum(self.batches())

    def batches(self) -> Iterator[int]:
        """Deliver, and yield after each batch of lines the number of metrics that were new."""
        try:
            if self._client is None:
                self._connect()
            for records, end in self._pending():
                sent = self._send(records)
                self._save(offset=end)
                for record in records:
                    self._told.add(record)
                yield sent
            if time.monotonic() - self._tried >= RETRY_SECONDS:
                self._retry()
                self._present()
        except Exception:
            # The failed request may have been carried out: look everything up again.
            self._client = None
            raise

    def finish(self) -> None:
        """Send how the run ended, and what was set aside; to be called after ``deliver``."""
        state = self.run.state
        self._client.set_terminated(state.run_id, state.status, state.ended_ms)
        self._retry()
        self._present()

    def _connect(self) -> None:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        state = self.run.state
        client = open_store(state.tracking_uri)
        self._experiment = find_or_create_experiment(client, state.experiment, state.tracking_uri)
        tags = state.tags | self._trunk.connect(client, self._experiment)
        run = current_run(client, self._experiment, state.key, state.run_name, tags, state.params)
        if run.info.run_id != state.run_id:
            self.run.update(run_id=run.info.run_id)
            self._save(offset=0)
        if self._experiment != state.experiment_id:
            self.run.update(experiment_id=self._experiment)
        if state.status == "RUNNING" and run.info.status != "RUNNING":
            client.update_run(run.info.run_id, status="RUNNING")
        describe(client, run, state.params, tags, state.inputs)
        self._sent = SentMetrics(client, self._look_back())
        self._nested = {}
        self._client = client
        if self._trunk.run_id is not None:  # which may have come after what was sent before
            self._send_to_trunk(read_records(self._run_dir / FILE_NAME))
        self._present()

    def _look_back(self) -> list[EventRecord]:
        """Return all events in the file; what was delivered tells what the run has cost."""
        position, begin, self._told = 0, self._begin(), Told()
        events = []
        for line, record in lines(self._run_dir / FILE_NAME):
            position += len(line)
            if position <= begin:
                self._told.add(record)
            if isinstance(record, EventRecord):
                events.append(record)
        return events

    def _present(self) -> None:
        """Bring the pages of the run and of its experiment up to date; no metric waits for it."""
        try:
            present(self._client, self._experiment, self.run.state, self._told)
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            if reason != self._undescribed:
                logger.warning("MLflow's description of the run is not up to date: %s", reason)
            self._undescribed = reason
        else:
            self._undescribed = None

    def _begin(self) -> int:
        """Return the position at which the delivery goes on."""
        path = self._run_dir / FILE_NAME
        if not self._offset or not path.exists():
            return 0
        with open(path, "rb") as file:
            file.seek(self._offset - 1)
            # A power failure, or a person, may have taken lines that had been delivered.
            return self._offset if file.read(1) == b"\n" else 0

    def _pending(self) -> Iterator[tuple[list[MetricsRecord], int]]:
        """Yield batches of undelivered records, each with the file position behind it."""
        offset = self._begin()
        with open(self._run_dir / FILE_NAME, "rb") as file:
            file.seek(offset)
            while read := file.readlines(READ_BYTES):
                if not read[-1].endswith(b"\n"):
                    read.pop()
                    if not read:
                        return
                offset += sum(map(len, read))
                yield [decode(line) for line in read], offset

    def _send(self, records: list[MetricsRecord]) -> int:
        fresh: dict[str, list[Any]] = {}
        for record in records:
            if isinstance(record, NestedRun):
                self._send_nested(record)
                continue
            run_id = self._run_of(record)
            metrics = [m for m in as_metrics(record) if self._sent.add(run_id, m, record)]
            fresh.setdefault(run_id, []).extend(metrics)
        for run_id, metrics in fresh.items():
            for start in range(0, len(metrics), BATCH_METRICS):
                part = metrics[start : start + BATCH_METRICS]
                self._client.log_batch(run_id, metrics=part)
        self._send_to_trunk(records)
        for record in records:
            if isinstance(record, ArtifactRecord):
                self._try_artifact(record.artifact)
        return sum(map(len, fresh.values()))

    def _send_to_trunk(self, records: Iterable[MetricsRecord]) -> None:
        """Send what the trunk's run does not have yet of the curve of its branches."""
        run_id = self._trunk.run_id
        for point in self._trunk.points(records):
            fresh = [m for m in as_metrics(point) if self._sent.add(str(run_id), m, point)]
            if fresh:
                self._client.log_batch(run_id, metrics=fresh)

    def _run_of(self, record: MetricsRecord) -> str:
        """Return the id of the MLflow run that a record belongs to."""
        if isinstance(record, CurvePoint) and record.within is not None:
            return self._nested_id(record.within, record.within, record.time)
        run_id = self.run.state.run_id
        assert run_id is not None  # set by connecting
        return run_id

    def _nested_id(self, key: str, name: str, began: float) -> str:
        """Return the id of a nested run, which is created unless the server has it."""
        if key not in self._nested:
            state = self.run.state
            ours, parent = f"{state.key}/{key}", {PARENT_TAG: str(state.run_id)}
            name = f"{name} of {state.run_name}"
            run = find_or_create_run(
                self._client, self._experiment, ours, name, parent, int(1000 * began)
            )
            self._nested[key] = run.info.run_id
        return self._nested[key]

    def _send_nested(self, record: NestedRun) -> None:
        run_id = self._nested_id(record.nested, record.name, record.time - record.seconds)
        run = self._client.get_run(run_id)
        inputs = [DataInput.model_validate(entry) for entry in record.inputs]
        describe(self._client, run, record.params, record.tags, inputs)
        self._client.set_terminated(run_id, "FINISHED", int(1000 * record.time))

    def _retry(self) -> None:
        """Try again what was set aside."""
        self._tried = time.monotonic()
        for name in list(self.set_aside):
            self._try_artifact(name)
        self._save(self._offset)

    def _try_artifact(self, name: str) -> None:
        """Send a file, or set it aside if the server answers and only the file is refused."""
        try:
            self._send_artifact(name)
        except Exception as error:
            # This raises if the server is away.
            run = self._client.get_run(self.run.state.run_id)
            problem = unservable(run, self.run.state.tracking_uri, error)
            if self.set_aside.get(name) != problem:
                logger.warning("%s is not sent to MLflow: %s", name, problem)
            self.set_aside[name] = problem
        else:
            self.set_aside.pop(name, None)

    def _send_artifact(self, name: str) -> None:
        path = self._run_dir / name
        if not path.exists():
            logger.warning("%s no longer exists and is not sent to MLflow", path)
            return
        parent = "." if Path(name).is_absolute() else str(Path(name).parent)
        send = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        target = str(Path(parent) / path.name) if path.is_dir() else parent
        run_id = str(self.run.state.run_id)
        send(run_id, str(path), None if target == "." else target)
        where = path.name if parent == "." else f"{parent}/{path.name}"
        require_served(self._client, run_id, self.run.state.tracking_uri, where)

    def _save(self, offset: int) -> None:
        self._offset = offset
        with atomic_write(self._cursor) as file:
            file.write(json.dumps({"offset": offset, "set_aside": self.set_aside}).encode())
