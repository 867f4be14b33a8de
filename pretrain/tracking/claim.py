"""Who may write to a run directory: a training as long as it runs, else one delivery at a time.

Two files are locked; the system lets go of them when the process dies. Whoever writes to
``metrics.jsonl`` or MLflow holds ``.tracking.lock``. A training holds ``.training.lock`` too, and
takes it first: then it waits for the delivery that holds the other one, and the delivery, which
looks for it between two batches, makes way. What the files contain is for people.
"""

import contextlib
import fcntl
import logging
import os
import platform
import time
from pathlib import Path

from convbert.models.errors import TransientError

LOCK_FILE = ".tracking.lock"
TRAINING_FILE = ".training.lock"
PATIENCE = 300.0
"""Seconds that a training waits for a delivery, which stops after the batch at hand."""
GLANCE = 1.0
"""Seconds that a training tries the lock of trainings, which who looks for one holds shortly."""
_INTERVAL = 0.1

logger = logging.getLogger(__name__)


class HeldError(TransientError):
    """Another process tracks the run; a shared file system may say so of one that just died."""


class Claim:
    """The right to write to a run directory, until it is released or the process dies."""

    def __init__(self, run_dir: Path, kind: str) -> None:
        """Hold nothing yet; ``kind`` tells people what the holder does."""
        self._run_dir = run_dir
        self._holder = f"{kind}, process {os.getpid()} on {platform.node()}"
        self._descriptors: list[int] = []

    def take(self, name: str, patience: float = 0.0) -> bool:
        """Lock the file ``name``, for which it tries ``patience`` seconds; tell whether it did."""
        descriptor = _lock(self._run_dir / name, patience)
        if descriptor is None:
            return False
        self._descriptors.append(descriptor)
        with contextlib.suppress(OSError):  # a full disk
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, self._holder.encode(), 0)
        return True

    def release(self) -> None:
        """Give the run directory free, also where forked processes still hold the descriptors."""
        while self._descriptors:
            _unlock(self._descriptors.pop())


def claim_for_training(run_dir: Path) -> Claim:
    """Claim ``run_dir``, which is created if need be; wait for a delivery that holds it.

    Raises ``HeldError`` at once where another training runs, and where a delivery still holds it
    after ``PATIENCE`` seconds.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    claim = Claim(run_dir, "training")
    if not claim.take(TRAINING_FILE, GLANCE):
        raise HeldError(_held(run_dir, TRAINING_FILE))
    if not claim.take(LOCK_FILE):
        logger.warning("%s: waiting for %s", run_dir, _holder(run_dir, LOCK_FILE))
        if not claim.take(LOCK_FILE, PATIENCE):
            claim.release()
            raise HeldError(_held(run_dir, LOCK_FILE))
    return claim


def claim_for_delivery(run_dir: Path) -> Claim:
    """Claim ``run_dir`` for a short while; raises ``HeldError`` where it is taken."""
    claim = Claim(run_dir, "delivery to MLflow")
    if claimed_by_training(run_dir):
        raise HeldError(_held(run_dir, TRAINING_FILE))
    if not claim.take(LOCK_FILE):
        raise HeldError(_held(run_dir, LOCK_FILE))
    return claim


def claimed_by_training(run_dir: Path) -> bool:
    """Tell whether a training runs, or waits for whoever holds ``run_dir`` now."""
    descriptor = _lock(run_dir / TRAINING_FILE, 0.0)
    if descriptor is not None:
        _unlock(descriptor)
    return descriptor is None


def _held(run_dir: Path, name: str) -> str:
    holder = _holder(run_dir, name)
    return f"{run_dir}: tracked by a running process ({holder}); wait until it ends"


def _holder(run_dir: Path, name: str) -> str:
    return (run_dir / name).read_text(errors="replace") or "unknown"


def _lock(path: Path, patience: float) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                os.close(descriptor)
                return None
            time.sleep(_INTERVAL)
        else:
            return descriptor


def _unlock(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)
