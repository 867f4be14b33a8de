"""One logger for everything a run says: each line with its time, process and level.

Modules log through ``logging.getLogger(__name__)``. A training process calls ``for_training`` when
it starts; the command line calls ``for_commands``, whose lines are a user's, not a log's.
"""

import logging
import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

_ROOT = "convbert"
_DEPRECATED = r"(?s).*\bdeprecated\b"


class _Stream(logging.StreamHandler[TextIO]):
    """Writes to the standard stream of the moment, which a live panel or a test may replace."""

    def __init__(self, name: str) -> None:
        logging.Handler.__init__(self)
        self._name_of_stream = name

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """The stream as it is now."""
        found: TextIO = getattr(sys, self._name_of_stream)
        return found


def for_training(rank: int) -> None:
    """Log as process ``rank`` of a run; processes other than 0 log warnings and errors only.

    What goes on is written to standard output, warnings and errors to standard error.
    """
    form = f"%(asctime)s rank {rank} %(levelname)s %(message)s"
    progress, trouble = _Stream("stdout"), _Stream("stderr")
    progress.addFilter(lambda record: record.levelno < logging.WARNING)
    trouble.setLevel(logging.WARNING)
    _configure([progress, trouble], form, logging.INFO if rank == 0 else logging.WARNING)
    _log_warnings_once()


def _log_warnings_once() -> None:
    """Log each warning of a library once, on one line: a run of a million updates repeats them.

    That a library calls another by an old name is left out: who trains can do nothing about it.
    """
    for category in (FutureWarning, DeprecationWarning):
        warnings.filterwarnings("ignore", _DEPRECATED, category)
    logger, shown = logging.getLogger(f"{_ROOT}.libraries"), set[str]()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text = f"{category.__name__}: {' '.join(str(message).split())} ({filename}:{lineno})"
        if text not in shown:
            shown.add(text)
            logger.warning("%s", text)

    warnings.showwarning = show


def for_commands() -> None:
    """Log warnings of a command to standard error, without time or process."""
    _configure([_Stream("stderr")], "%(levelname)s: %(message)s", logging.WARNING)


def _configure(handlers: Sequence[logging.Handler], form: str, level: int) -> None:
    for handler in handlers:
        handler.setFormatter(logging.Formatter(form, datefmt="%Y-%m-%d %H:%M:%S"))
    logger = logging.getLogger(_ROOT)
    logger.handlers = [*handlers]
    logger.setLevel(level)
    logger.propagate = False
