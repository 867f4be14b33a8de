"""Lines about what goes on for whoever reads a log, less and less often."""

import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

WAITS = (15.0, 30.0, 60.0, 120.0)
"""Seconds before the first lines; all later ones come every five minutes."""
_LATER = 300.0


@contextmanager
def now_and_then(line: Callable[[], str]) -> Iterator[None]:
    """Print ``line()`` to stderr while the block runs, from a thread of its own."""
    ended = threading.Event()

    def report() -> None:
        for seconds in itertools.chain(WAITS, itertools.repeat(_LATER)):
            if ended.wait(seconds):
                return
            print(line(), file=sys.stderr, flush=True)

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def clock(seconds: float) -> str:
    """Return hours, minutes and seconds, as in ``1:02:03``."""
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
