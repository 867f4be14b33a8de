"""The thread that writes this process's part of a checkpoint while training goes on.

No collective runs on it: the processes meet through files.
"""

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)


class BackgroundWrite:
    """A checkpoint that is being written; ``problem`` is why it failed, once it has."""

    def __init__(self, step: int, write: Callable[[threading.Event], None]) -> None:
        """Start ``write``, which is called with the event that ``cancel`` sets."""
        self.step = step
        self.problem: str | None = None
        self._write = write
        self._cancelled = threading.Event()
        # A daemon: a process that ends in an error does not wait for other processes' parts.
        self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Stop waiting for the parts of other processes."""
        self._cancelled.set()

    def join(self) -> None:
        """Wait for the end."""
        self._thread.join()

    def _run(self) -> None:
        try:
            self._write(self._cancelled)
        except Exception as error:  # the training thread asks for the problem and handles it
            logger.debug("writing a checkpoint", exc_info=True)
            self.problem = f"{type(error).__name__}: {error}"
