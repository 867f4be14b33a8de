"""Delivery for a run that no process tracks, by an evaluation of it or ``convbert track sync``."""

from collections.abc import Callable
from pathlib import Path

from convbert.models.errors import UserError
from convbert.pretrain.tracking import inbox
from convbert.pretrain.tracking.claim import HeldError, claim_for_delivery, claimed_by_training
from convbert.pretrain.tracking.metrics_log import FILE_NAME, MetricsLog
from convbert.pretrain.tracking.mlflow_delivery import Delivery
from convbert.pretrain.tracking.tracked_run import TrackedRun


def deliver(run_dir: Path, opened: Callable[[], TrackedRun | None]) -> int:
    """Take over what was handed in, and deliver all to the run ``opened``; return metrics sent.

    Without an MLflow run (None) there is nothing to deliver. Raises ``HeldError`` where a process
    tracks the run or a training starts meanwhile, ``UserError`` where the server cannot be reached
    or refuses something.
    """
    sent = _once(run_dir, opened)
    while inbox.waiting(run_dir):  # handed in meanwhile, by a process that found the run held
        sent += _once(run_dir, opened)
    return sent


def _once(run_dir: Path, opened: Callable[[], TrackedRun | None]) -> int:
    claim = claim_for_delivery(run_dir)
    try:
        if inbox.waiting(run_dir):
            log = MetricsLog(run_dir / FILE_NAME)
            inbox.take_over(run_dir, log)
            log.close()
        run = opened()
        return 0 if run is None else _send(run_dir, run)
    finally:
        claim.release()


def _send(run_dir: Path, run: TrackedRun) -> int:
    """Deliver all there is, unless a training starts, which waits for no more than one batch."""
    delivery = Delivery(run_dir, run)
    sent = 0
    try:
        for new in delivery.batches():
            sent += new
            if claimed_by_training(run_dir):
                raise HeldError(f"{run_dir}: a training starts, which delivers the rest")
        delivery.finish()
    except HeldError:
        raise
    except Exception as error:
        raise UserError(_undelivered(run_dir, run, error)) from error
    if delivery.set_aside:
        raise UserError(_undelivered(run_dir, run, delivery.set_aside))
    return sent


def _undelivered(run_dir: Path, run: TrackedRun, reason: object) -> str:
    uri = run.state.tracking_uri
    return (
        f"{uri}: could not deliver all of {run_dir} ({reason}); `convbert track sync` tries again"
    )
