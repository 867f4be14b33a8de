"""Tracking a run: everything goes to ``metrics.jsonl`` first, and from there to MLflow.

The training loop only ever appends a line to a local file. A background thread of process 0 sends
complete lines to MLflow, remembers in the run directory how far it came, and tries again while
the server is away; ``convbert track sync`` delivers later what a run could not.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from convbert.pretrain.run.claim import Claim, claim_for_training
from convbert.pretrain.run.curve import REPORT, forget_after
from convbert.pretrain.run.tracking_uri import OFF, resolve_uri
from convbert.pretrain.tracking.metrics_log import FILE_NAME, MetricsLog, hand_in, inbox
from convbert.pretrain.tracking.mlflow_delivery import Delivery
from convbert.pretrain.tracking.mlflow_spool import Spool
from convbert.pretrain.tracking.records import (
    ArtifactRecord,
    CurvePoint,
    EventRecord,
    MetricsRecord,
    NestedRun,
    StepRecord,
    now,
)
from convbert.pretrain.tracking.stopped_run import deliver_if_free
from convbert.pretrain.tracking.system import SystemSampler
from convbert.pretrain.tracking.tracked_run import (
    DataInput,
    RunState,
    TrackedRun,
    flatten,
    resolve_experiment,
    sent_before,
)

INBOX_SECONDS = 5.0
"""Seconds between two looks into the inbox while a run trains."""

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Tracker:
    """Takes what a run measures; this one, of processes other than 0, keeps nothing."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self.problem: str | None = None
        """Why the newest records could not be written, as long as they are not."""

    def append(self, record: MetricsRecord) -> None:
        """Keep a record; every method below that makes one calls this."""

    def log(self, step: int, flops: float, values: dict[str, float]) -> None:
        """Record scalars of optimizer step ``step`` after ``flops`` cumulative training FLOPs."""
        self.append(StepRecord(int(step), now(), float(flops), _floats(values)))

    def curve_point(
        self, flops: float, name: str, value: float, *, within: str | None = None, **extra: Any
    ) -> None:
        """Record that the measure ``name`` was ``value`` after ``flops`` training FLOPs.

        ``extra`` (spread, seeds, step) is kept in the file; its numbers reach MLflow as
        ``NAME_KEY``. ``within`` names the nested run that it belongs to.
        """
        self.append(CurvePoint(name, now(), float(flops), float(value), extra, within))

    def nested(self, run: NestedRun) -> None:
        """Record a run within this one, before its curve points."""
        self.append(run)

    def event(self, kind: str, action: str, at: int, facts: dict[str, float]) -> None:
        """Record what happened to optimizer step ``at`` and what was done about it."""
        self.append(EventRecord(kind, action, int(at), now(), _floats(facts)))

    def artifact(self, path: Path) -> None:
        """Publish a file, which has to stay in place until it is delivered."""
        self.append(ArtifactRecord.of(self._run_dir, path))

    def rollback(self, kind: str, step: int, facts: dict[str, float]) -> None:
        """Drop what came after optimizer step ``step``, which is repeated because of ``kind``.

        ``facts`` says in ``step`` which update that happened to.
        """

    def flush(self) -> None:
        """Force all records to the disk, before a checkpoint that counts on them is committed."""

    def close(self, status: Status) -> None:
        """End the run as ``status``; waits a bounded time for the delivery."""


def _floats(values: dict[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}


class RunTracker(Tracker):
    """The tracker of process 0: the log and, unless switched off, the thread that sends it."""

    def __init__(
        self,
        run_dir: Path,
        log: MetricsLog,
        claim: Claim,
        spool: Spool | None,
        sampler: SystemSampler | None,
    ) -> None:
        super().__init__(run_dir)
        self._log = log
        self._claim = claim
        self._spool = spool
        self._sampler = sampler
        self._looked = time.monotonic()
        self._waiting: deque[MetricsRecord] = deque()

    def append(self, record: MetricsRecord) -> None:
        """Write one record; on a full disk it waits for the next one, and ``problem`` says why."""
        self._waiting.append(record)
        with self._noting():
            while self._waiting:
                self._log.append(self._waiting[0])
                self._waiting.popleft()
            self.problem = None

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """Keep what the disk refuses as the problem."""
        try:
            yield
        except OSError as error:
            self.problem = f"{self._log.path}: cannot be written ({error.strerror})"

    def log(self, step: int, flops: float, values: dict[str, float]) -> None:
        """Write the record, the samples of the machine and now and then the inbox."""
        super().log(step, flops, values)
        self._write_samples()
        if time.monotonic() - self._looked > INBOX_SECONDS:
            with self._noting():
                self._log.take_inbox()
            self._looked = time.monotonic()

    def _write_samples(self) -> None:
        for sample in self._sampler.take() if self._sampler else ():
            self.append(sample)

    def rollback(self, kind: str, step: int, facts: dict[str, float]) -> None:
        """Drop the records after ``step`` and deliver what follows as new."""
        note = EventRecord(kind, "rollback", step + 1, now(), _floats(facts))
        forget_after(self._run_dir / REPORT, step)
        if self._spool is None:
            self._log.rewind(step, note)
            return
        with self._spool.paused() as delivery:
            self._log.rewind(step, note)
            delivery.rewind()

    def flush(self) -> None:
        """Force the log to the disk."""
        with self._noting():
            self._log.sync()

    def close(self, status: Status) -> None:
        """Write what is left, wait a bounded time for the delivery, release the run."""
        if self._sampler is not None:
            self._sampler.stop()
        self._write_samples()
        with self._noting():
            self._log.take_inbox()
            self._log.sync()
        self._log.close()
        run = None
        if self._spool is not None:
            with self._noting():
                run = self._spool.close(status)
        self._claim.release()
        # A process that filled the inbox since it was emptied found the run still held.
        if inbox(self._run_dir):
            deliver_if_free(self._run_dir, lambda: run)


class EvaluationTracker(Tracker):
    """The tracker of a process that does not train the run: hands in its records at the end."""

    def __init__(self, run_dir: Path, described: RunState) -> None:
        super().__init__(run_dir)
        self._described = described
        self._records: list[MetricsRecord] = []

    def append(self, record: MetricsRecord) -> None:
        """Keep one record for the end."""
        self._records.append(record)

    def close(self, status: Status) -> None:
        """Hand in the records: all of them or, after a failure, none."""
        if status == "FINISHED" and self._records:
            hand_in(self._run_dir, self._records)
            deliver_if_free(self._run_dir, self._opened)

    def _opened(self) -> TrackedRun | None:
        if self._described.tracking_uri == OFF:
            return None
        return TrackedRun.add(self._run_dir, self._described)


def open_tracker(
    run_dir: Path,
    *,
    enabled: bool,
    experiment: str | None,
    run_name: str,
    tracking_uri: str | None,
    params: dict[str, Any],
    tags: dict[str, str],
    resume_step: int | None,
    inputs: Sequence[DataInput] = (),
    sample_seconds: float | None = None,
    claim: Claim | None = None,
    settings: dict[str, Any] | None = None,
) -> Tracker:
    """Open the tracker of a process that trains ``run_dir``; only process 0 passes ``enabled``.

    ``tracking_uri`` is what ``resolve_uri`` takes, ``experiment`` what ``resolve_experiment``
    takes. ``params`` may be nested; they reach MLflow with dotted names. What an earlier start sent
    beside them is looked up in ``settings``. A run directory keeps its MLflow run, unless a
    parameter changes (``mlflow_runs.current_run``). ``resume_step`` N drops what
    the file holds after step N, None appends to it. ``sample_seconds`` is how often the machine is
    sampled. ``claim`` is what ``claim_for_training`` returned, which is called here if it is
    missing; the tracker releases it. Raises ``UserError`` for an unusable URI and ``HeldError`` if
    another process tracks the run.
    """
    if not enabled:
        return Tracker(run_dir)
    claim = claim or claim_for_training(run_dir)
    try:
        delivery = None
        uri = resolve_uri(run_dir, tracking_uri)
        if uri != OFF:
            described = RunState(
                tracking_uri=uri,
                experiment=resolve_experiment(run_dir, experiment),
                run_name=run_name,
                params=sent_before(run_dir, flatten(settings or {})) | flatten(params),
                tags=tags,
                inputs=list(inputs),
            )
            run = TrackedRun.open(run_dir, described)
            delivery = Delivery(run_dir, run, rewound=resume_step is not None)
        log = MetricsLog(run_dir / FILE_NAME, resume_step=resume_step)
        if resume_step is not None:
            forget_after(run_dir / REPORT, resume_step)
    except Exception:
        claim.release()
        raise
    spool = None if delivery is None else Spool(delivery)
    sampler = None if sample_seconds is None else SystemSampler(sample_seconds, run_dir)
    return RunTracker(run_dir, log, claim, spool, sampler)


def add_to_run(
    run_dir: Path, *, experiment: str | None, run_name: str, tracking_uri: str | None
) -> Tracker:
    """Open a tracker that adds curves and artifacts to a run and leaves its outcome as it is.

    It does not hold the run before it is closed. What was added then goes to the process that
    tracks the run, usually its training, or is delivered at once if there is none. Raises
    ``UserError`` for an unusable URI.
    """
    uri = resolve_uri(run_dir, tracking_uri)
    described = RunState(
        tracking_uri=uri, experiment=resolve_experiment(run_dir, experiment), run_name=run_name
    )
    return EvaluationTracker(run_dir, described)
