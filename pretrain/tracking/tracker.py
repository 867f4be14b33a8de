"""Tracking a run: everything goes to ``metrics.jsonl`` first, and from there to MLflow.

The training loop only ever appends a line to a local file. A background thread of rank 0 ships
complete lines to MLflow, remembers in the run directory how far it came, and tries again while
the server is away; ``sync`` delivers later what a run could not.
"""

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from convbert.models.errors import UserError
from convbert.pretrain.tracking import inbox
from convbert.pretrain.tracking.claim import (
    Claim,
    claim_for_training,
)
from convbert.pretrain.tracking.metrics_log import (
    FILE_NAME,
    ArtifactRecord,
    CurvePoint,
    EventRecord,
    MetricsLog,
    NestedRun,
    StepRecord,
    now,
)
from convbert.pretrain.tracking.mlflow_calls import SQLITE
from convbert.pretrain.tracking.mlflow_delivery import Delivery
from convbert.pretrain.tracking.mlflow_spool import Spool
from convbert.pretrain.tracking.stopped_run import deliver
from convbert.pretrain.tracking.system import SystemSampler
from convbert.pretrain.tracking.tracked_run import (
    DataInput,
    RunState,
    TrackedRun,
    flatten,
)

Status = Literal["FINISHED", "FAILED", "KILLED"]

OFF = "off"
"""Tracking URI of a run that keeps its ``metrics.jsonl`` and talks to no MLflow."""


class Tracker(Protocol):
    """What the training loop may say about a run."""

    def log(self, step: int, flops: float, values: dict[str, float]) -> None:
        """Record scalars of optimizer step ``step`` after ``flops`` cumulative training FLOPs."""

    def curve_point(
        self, flops: float, name: str, value: float, *, within: str | None = None, **extra: Any
    ) -> None:
        """Record that the measure ``name`` was ``value`` after ``flops`` training FLOPs.

        ``extra`` (spread, seeds, step) is kept in the file; its numbers reach MLflow as
        ``NAME_KEY``. ``within`` names the nested run that it belongs to.
        """

    def nested(self, run: NestedRun) -> None:
        """Record a run within this one, before its curve points."""

    def event(self, kind: str, action: str, at: int, facts: dict[str, float]) -> None:
        """Record what befell optimizer step ``at`` and what was done about it."""

    def rewind(self, step: int) -> None:
        """Forget what came after optimizer step ``step``, which is trained again otherwise."""

    def artifact(self, path: Path) -> None:
        """Publish a file; it must stay in place until it was delivered."""

    def flush(self) -> None:
        """Force all records to the disk, before a checkpoint that counts on them is committed."""

    def close(self, status: Status) -> None:
        """End the run as ``status``; waits a bounded time for the delivery."""


class SilentTracker:
    """The tracker of ranks other than 0: takes everything, keeps nothing."""

    def log(self, step: int, flops: float, values: dict[str, float]) -> None:
        """Do nothing."""

    def curve_point(
        self, flops: float, name: str, value: float, *, within: str | None = None, **extra: Any
    ) -> None:
        """Do nothing."""

    def nested(self, run: NestedRun) -> None:
        """Do nothing."""

    def event(self, kind: str, action: str, at: int, facts: dict[str, float]) -> None:
        """Do nothing."""

    def rewind(self, step: int) -> None:
        """Do nothing."""

    def artifact(self, path: Path) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""

    def close(self, status: Status) -> None:
        """Do nothing."""


class RunTracker:
    """The tracker of rank 0: a log file and, unless switched off, the thread that ships it."""

    def __init__(
        self,
        run_dir: Path,
        log: MetricsLog,
        claim: Claim,
        run: TrackedRun | None,
        spool: Spool | None,
        sampler: SystemSampler | None,
    ) -> None:
        self._run_dir = run_dir
        self._log = log
        self._claim = claim
        self._run = run
        self._spool = spool
        self._sampler = sampler
        self._looked = time.monotonic()

    def log(self, step: int, flops: float, values: dict[str, float]) -> None:
        """Append one training record, and now and then what others measured or handed in."""
        scalars = {name: float(value) for name, value in values.items()}
        self._log.append(StepRecord(int(step), now(), float(flops), scalars))
        self._append_samples()
        if time.monotonic() - self._looked > inbox.INTERVAL:
            inbox.take_over(self._run_dir, self._log)
            self._looked = time.monotonic()

    def _append_samples(self) -> None:
        for sample in self._sampler.take() if self._sampler else ():
            self._log.append(sample)

    def curve_point(
        self, flops: float, name: str, value: float, *, within: str | None = None, **extra: Any
    ) -> None:
        """Append one curve record."""
        self._log.append(CurvePoint(name, now(), float(flops), float(value), extra, within))

    def nested(self, run: NestedRun) -> None:
        """Append the description of a nested run."""
        self._log.append(run)

    def event(self, kind: str, action: str, at: int, facts: dict[str, float]) -> None:
        """Append one event."""
        numbers = {name: float(value) for name, value in facts.items()}
        self._log.append(EventRecord(kind, action, int(at), now(), numbers))

    def rewind(self, step: int) -> None:
        """Drop the records after ``step`` and deliver what follows as new."""
        if self._spool is None:
            self._log.rewind(step)
            return
        with self._spool.paused() as delivery:
            self._log.rewind(step)
            delivery.rewind()

    def artifact(self, path: Path) -> None:
        """Append the file's path, relative to the run directory where it lies inside."""
        self._log.append(ArtifactRecord.of(self._run_dir, path))

    def flush(self) -> None:
        """Force the log to the disk."""
        self._log.sync()

    def close(self, status: Status) -> None:
        """Write the final status, give the thread a last bounded chance, release the run."""
        if self._sampler is not None:
            self._sampler.stop()
        self._append_samples()
        inbox.take_over(self._run_dir, self._log)
        self._log.sync()
        self._log.close()
        if self._run is not None:
            self._run.end(status)
        if self._spool is not None:
            self._spool.close()
        self._claim.release()
        # Who handed in since the inbox was emptied found the run still held.
        if inbox.waiting(self._run_dir):
            with contextlib.suppress(UserError):
                sync(self._run_dir)


def open_tracker(
    run_dir: Path,
    *,
    enabled: bool,
    experiment: str,
    run_name: str,
    tracking_uri: str | None,
    params: dict[str, Any],
    tags: dict[str, str],
    resume_step: int | None,
    inputs: Sequence[DataInput] = (),
    sample_seconds: float | None = None,
    claim: Claim | None = None,
) -> Tracker:
    """Open the tracker of the training of ``run_dir``; only rank 0 passes ``enabled``.

    ``tracking_uri`` None means ``MLFLOW_TRACKING_URI`` or a SQLite file beside the run;
    ``"off"`` means no MLflow. ``resume_step`` s forgets what the file holds after step s, None
    appends to it. ``params`` may be nested; they reach MLflow with dotted names. A run directory
    keeps its MLflow run for life: resuming continues the same one. ``sample_seconds`` is how often
    the machine is looked at. ``claim`` is what ``claim_for_training`` gave, which is called here
    otherwise; the tracker releases it. Raises ``UserError`` for an unusable URI, and as
    ``claim_for_training`` where another process tracks the run.
    """
    if not enabled:
        return SilentTracker()
    claim = claim or claim_for_training(run_dir)
    try:
        run, spool = None, None
        uri = resolve_uri(run_dir, tracking_uri)
        if uri != OFF:
            described = RunState(
                tracking_uri=uri,
                experiment=experiment,
                run_name=run_name,
                params=flatten(params),
                tags=tags,
                inputs=list(inputs),
            )
            run = TrackedRun.open(run_dir, described)
            spool = Spool(Delivery(run_dir, run, rewound=resume_step is not None))
        log = MetricsLog(run_dir / FILE_NAME, resume_step=resume_step)
    except Exception:
        claim.release()
        raise
    sampler = None
    if sample_seconds is not None:
        sampler = SystemSampler(sample_seconds, run_dir)
        sampler.start()
    if spool is not None:
        spool.start()
    return RunTracker(run_dir, log, claim, run, spool, sampler)


def add_to_run(
    run_dir: Path, *, experiment: str, run_name: str, tracking_uri: str | None
) -> Tracker:
    """Open a tracker that adds curves and artifacts to a run, and leaves its outcome as it is.

    It keeps nobody from the run before it is closed. Then it hands in what was added, to the
    process that tracks the run, its training usually, and delivers it where there is none. Raises
    ``UserError`` for an unusable URI.
    """
    uri = resolve_uri(run_dir, tracking_uri)
    described = RunState(tracking_uri=uri, experiment=experiment, run_name=run_name)

    def opened() -> TrackedRun | None:
        return None if uri == OFF else TrackedRun.add(run_dir, described)

    return inbox.InboxTracker(run_dir, lambda: deliver(run_dir, opened))


def resolve_uri(run_dir: Path, tracking_uri: str | None) -> str:
    """Return the MLflow URI to use; see ``open_tracker``."""
    default = f"{SQLITE}{run_dir.resolve().parent / 'mlflow.db'}"
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or default
    if uri == OFF:
        return uri
    if uri.startswith("file:") or "://" not in uri:
        raise UserError(
            f"tracking URI {uri!r}: MLflow 3 no longer keeps runs in plain folders; "
            "use sqlite:///FILE.db, http://HOST:PORT or off"
        )
    if uri.startswith(SQLITE):
        database = Path(uri.removeprefix(SQLITE)).resolve()
        if not database.parent.is_dir():
            raise UserError(f"tracking URI {uri!r}: no folder {database.parent}; create it first")
        return f"{SQLITE}{database}"
    return uri


def sync(run_dir: Path, tracking_uri: str | None = None) -> int:
    """Deliver to MLflow what it does not have yet of a stopped run; return the metrics sent.

    Doing it twice sends nothing twice. A run whose process died without a word is marked
    KILLED. Raises ``UserError`` where the run is alive, was never tracked, or the server cannot
    be reached.
    """

    def opened() -> TrackedRun:
        run = TrackedRun.load(run_dir, tracking_uri)
        if run.state.status == "RUNNING":
            run.end("KILLED")
        return run

    return deliver(run_dir, opened)
