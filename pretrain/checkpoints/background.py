"""A process's share of writing one checkpoint, done by a thread while training goes on.

No collective runs here: the processes meet through files, each leaving a note beside its part.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convbert.pretrain.checkpoints import checkpoint
from convbert.pretrain.checkpoints.snapshot import Snapshot
from convbert.pretrain.run.checkpoint_manifest import checkpoint_directory

logger = logging.getLogger(__name__)
_POLL_SECONDS = 0.02


class CancelledError(Exception):
    """Another process failed, so that the checkpoint will never be complete."""


class Writing:
    """One checkpoint on its way to the disk; ``problem`` says why it failed, if it did."""

    def __init__(self, step: int, work: Callable[["Writing"], None]) -> None:
        self.step = step
        self.problem: str | None = None
        self._cancelled = threading.Event()
        self._work = work
        # A daemon: a process that ends in an error does not wait for other processes' parts.
        self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Say whether the thread is at work."""
        return self._thread.is_alive()

    def cancel(self) -> None:
        """Stop waiting for other processes."""
        self._cancelled.set()

    def join(self) -> None:
        """Wait for the end."""
        self._thread.join()

    def await_parts(self, folder: Path, world: int) -> list[checkpoint.Part]:
        """Wait until every process has left its note."""
        while (parts := checkpoint.read_parts(folder, world)) is None:
            if self._cancelled.wait(_POLL_SECONDS):
                raise CancelledError
        return parts

    def _run(self) -> None:
        try:
            self._work(self)
        except CancelledError:
            self.problem = "another process failed"
        except Exception as error:  # raised again where the training thread asks
            logger.debug("writing a checkpoint", exc_info=True)
            self.problem = f"{type(error).__name__}: {error}"


def write_share(
    writing: Writing,
    folder: Path,
    rank: int,
    world: int,
    snapshot: Snapshot,
    fragments: list[tuple[str, int, int]],
    shapes: dict[str, tuple[int, ...]],
    trainer: dict[str, Any],
) -> None:
    """Write this process's part; process 0 then waits for the others and commits."""
    checkpoint.write_part(folder, rank, snapshot, fragments)
    if rank == 0:
        parts = writing.await_parts(folder, world)
        final = checkpoint_directory(folder.parent, writing.step)
        checkpoint.commit(folder, final, writing.step, shapes, parts, trainer)
