"""Who may write to a run directory: training as long as it runs, or one delivery at a time.

Two files are locked (``data_pipeline.locks``). Whoever writes to ``metrics.jsonl`` or MLflow holds
``.tracking.lock``. Training also holds ``.training.lock``, which it takes first. It then waits for
a delivery that holds the other lock; the delivery checks for training after every batch and stops
early. The files' content names the holder, for people.
"""

import contextlib
import logging
import os
import platform
from pathlib import Path

from convbert.data_pipeline.locks import Lock, acquire
from convbert.models.errors import TransientError, UserError

LOCK_FILE = ".tracking.lock"
TRAINING_FILE = ".training.lock"
PATIENCE = 300.0
"""Seconds that training waits for a delivery, which stops after the batch it is sending."""
_CHECK_SECONDS = 1.0
"""Seconds for which training retries its own lock: a check for training holds it for a moment."""
HANDED_ON = "CONVBERT_CLAIM"
"""Variable with the numbers of the locked files that a launcher hands on to process 0."""

logger = logging.getLogger(__name__)


class HeldError(TransientError):
    """Another process tracks the run; a shared file system may report one that has just died."""


class Claim:
    """The right to write to a run directory, until it is released or the process dies."""

    def __init__(self, run_dir: Path, kind: str) -> None:
        """Hold nothing yet; ``kind`` is what the lock files say that the holder does."""
        self._run_dir = run_dir
        self._holder = f"{kind}, process {os.getpid()} on {platform.node()}"
        self._locks: list[Lock] = []

    def take(self, name: str, patience: float = 0.0) -> bool:
        """Lock the file ``name``, retrying for ``patience`` seconds; return whether it is held."""
        lock = _lock(self._run_dir / name, patience)
        if lock is None:
            return False
        self._keep(lock)
        return True

    def _keep(self, lock: Lock) -> None:
        self._locks.append(lock)
        with contextlib.suppress(OSError):  # a full disk: the lock holds without the name
            os.ftruncate(lock.descriptor, 0)
            os.pwrite(lock.descriptor, self._holder.encode(), 0)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The locked files, to be passed to the process that the claim is handed on to.

        A lease stays with the process that took it, which has to outlive the other.
        """
        return tuple(lock.descriptor for lock in self._locks if not lock.leased)

    def hand_on(self) -> dict[str, str]:
        """Return the variables with which a process that got the files takes the claim over."""
        return {HANDED_ON: ",".join(map(str, self.descriptors))}

    def take_over(self, descriptors: str) -> None:
        """Hold what another process handed on."""
        for descriptor in map(int, filter(None, descriptors.split(","))):
            os.set_inheritable(descriptor, False)
            self._keep(Lock(descriptor, None))

    def leave(self) -> None:
        """Close the files; the claim lasts as long as the process it was handed on to."""
        for lock in self._locks:
            if not lock.leased:
                os.close(lock.descriptor)
        self._locks = [lock for lock in self._locks if lock.leased]

    def release(self) -> None:
        """Release the run directory, even if forked processes still hold the descriptors."""
        while self._locks:
            self._locks.pop().release()


def claim_for_training(run_dir: Path) -> Claim:
    """Claim ``run_dir``, which is created if missing; wait for a delivery that holds it.

    A process that was handed a claim by its launcher takes that one over. Raises ``HeldError`` at
    once if another process trains the run, and if a delivery still holds it after ``PATIENCE``
    seconds.
    """
    claim = Claim(run_dir, "training")
    if (handed := os.environ.pop(HANDED_ON, None)) is not None:
        claim.take_over(handed)
        return claim
    run_dir.mkdir(parents=True, exist_ok=True)
    if not claim.take(TRAINING_FILE, _CHECK_SECONDS):
        raise _held(run_dir, TRAINING_FILE)
    if not claim.take(LOCK_FILE):
        logger.warning("%s: waiting for %s", run_dir, _holder(run_dir, LOCK_FILE))
        if not claim.take(LOCK_FILE, PATIENCE):
            claim.release()
            raise _held(run_dir, LOCK_FILE)
    return claim


def claim_for_delivery(run_dir: Path) -> Claim:
    """Claim ``run_dir`` for a delivery; raises ``HeldError`` if another process holds it."""
    claim = Claim(run_dir, "delivery to MLflow")
    if claimed_by_training(run_dir):
        raise _held(run_dir, TRAINING_FILE)
    if not claim.take(LOCK_FILE):
        raise _held(run_dir, LOCK_FILE)
    return claim


def claimed_by_training(run_dir: Path) -> bool:
    """Return whether a process trains the run, or waits to, until another process releases it."""
    if not (run_dir / TRAINING_FILE).is_file():  # who only looks leaves no file behind
        return False
    lock = _lock(run_dir / TRAINING_FILE)
    if lock is not None:
        lock.release()
    return lock is None


def _lock(path: Path, patience: float = 0.0) -> Lock | None:
    try:
        return acquire(path, patience)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be opened ({error.strerror}); make its directory writable, or copy "
            f"the run (`cp -a {path.parent} COPY`) and take the copy"
        ) from None


def _held(run_dir: Path, name: str) -> HeldError:
    holder = _holder(run_dir, name)
    return HeldError(f"{run_dir}: tracked by a running process ({holder}); wait until it ends")


def _holder(run_dir: Path, name: str) -> str:
    return (run_dir / name).read_text(errors="replace") or "unknown"
