"""Delivery for a run that no process tracks, by an evaluation of it or ``convbert track sync``."""

import logging
import shlex
from collections.abc import Callable
from pathlib import Path

from convbert.models.errors import TransientError, UserError
from convbert.pretrain.run.claim import HeldError, claim_for_delivery, claimed_by_training
from convbert.pretrain.run.tracking_uri import OFF, resolve_uri, without_login
from convbert.pretrain.tracking.metrics_log import FILE_NAME, MetricsLog, inbox
from convbert.pretrain.tracking.mlflow_delivery import Delivery
from convbert.pretrain.tracking.mlflow_faults import in_short
from convbert.pretrain.tracking.tracked_run import TrackedRun

logger = logging.getLogger(__name__)


def sync(run_dir: Path, tracking_uri: str | None = None) -> int:
    """Deliver to MLflow what it does not have yet of a stopped run; return the metrics sent.

    Repeating it sends nothing twice. A run whose process died without a word is marked KILLED.
    Raises ``HeldError`` while a process tracks the run, ``AbsentError`` if it was never tracked,
    ``UserError`` for a store that cannot be used and ``TransientError`` if the server cannot be
    reached.
    """
    uri = store_of(run_dir, tracking_uri)  # raises before a lock file is made where no run is

    def opened() -> TrackedRun:
        run = TrackedRun.load(run_dir, uri)
        if run.state.status == "RUNNING":
            run.end("KILLED")
        run.update()
        return run

    return deliver(run_dir, opened)


def store_of(run_dir: Path, tracking_uri: str | None = None) -> str:
    """Return where a run is tracked, or is to be; raises as ``sync`` does before it begins."""
    uri = resolve_uri(run_dir, tracking_uri or TrackedRun.load(run_dir).state.tracking_uri)
    if uri == OFF:
        raise UserError(f"tracking URI {uri!r}: is none to deliver to; leave --uri out")
    return uri


def deliver(run_dir: Path, opened: Callable[[], TrackedRun | None]) -> int:
    """Append the inbox to the log and deliver all to the run ``opened``; return the metrics sent.

    Without an MLflow run (None) nothing is delivered. Raises ``HeldError`` if a process tracks the
    run or starts to train it meanwhile, ``TransientError`` if the server cannot be reached or
    refuses something.
    """
    sent = _deliver_once(run_dir, opened)
    while inbox(run_dir):  # filled meanwhile, by a process that found the run held
        sent += _deliver_once(run_dir, opened)
    return sent


def deliver_if_free(run_dir: Path, opened: Callable[[], TrackedRun | None]) -> None:
    """Do what ``deliver`` does, unless a process tracks the run; log a failure as a warning."""
    try:
        deliver(run_dir, opened)
    except HeldError:  # that process appends the inbox and delivers all
        pass
    except UserError as error:
        logger.warning("%s", error)


def _deliver_once(run_dir: Path, opened: Callable[[], TrackedRun | None]) -> int:
    claim = claim_for_delivery(run_dir)
    try:
        if inbox(run_dir):
            log = MetricsLog(run_dir / FILE_NAME)
            log.take_inbox()
            log.close()
        run = opened()
        return 0 if run is None else _send(run_dir, run)
    finally:
        claim.release()


def _send(run_dir: Path, run: TrackedRun) -> int:
    """Deliver everything, unless training starts, which waits for the batch at hand only."""
    delivery = Delivery(run_dir, run)
    sent = 0
    try:
        for new in delivery.batches():
            sent += new
            if claimed_by_training(run_dir):
                raise HeldError(f"{run_dir}: training starts, which delivers the rest")
        delivery.finish()
    except UserError:  # of what somebody has to do first
        raise
    except Exception as error:  # whatever MLflow raises
        raise _undelivered(run_dir, run, error) from error
    if delivery.set_aside:
        problems: dict[str, list[str]] = {}
        for name, problem in delivery.set_aside.items():
            problems.setdefault(problem, []).append(name)
        said = "; ".join(f"{', '.join(names)}: {why}" for why, names in problems.items())
        uri = without_login(run.state.tracking_uri)
        raise UserError(f"{uri}: could not deliver all of {run_dir}: {said}")
    return sent


def _undelivered(run_dir: Path, run: TrackedRun, error: Exception) -> TransientError:
    again = shlex.join(["convbert", "track", "sync", str(run_dir)])
    return TransientError(
        f"{without_login(run.state.tracking_uri)}: could not deliver all of {run_dir}: "
        f"{in_short(error)}; `{again}` tries again"
    )
