"""A pool of processes whose results come in order and that leaves nothing behind."""

import gc
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import TypeVar

from convbert.models.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def end_with_parent() -> None:
    """End this process when its parent is gone, however that ended."""
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def uncollected() -> Iterator[None]:
    """Put off the search for reference cycles while the block runs, for it makes none.

    The search is proportional to the objects there are, and tokenized text is a million lists.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """Yield ``function`` of every item in order, with a bounded number of items in memory.

    ``function`` must be picklable unless ``workers`` is 1. Raises ``UserError`` if a process is
    killed.
    """
    if workers == 1:
        yield from map(function, items)
        return
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker)
    running: deque[Future[Result]] = deque()
    try:
        for item in items:
            running.append(pool.submit(function, item))
            if len(running) > 2 * workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    except BrokenProcessPool:
        _stop_feeding(pool)
        raise UserError(
            f"workers={workers}: one was killed, most likely for lack of memory; use fewer"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _stop_feeding(pool: ProcessPoolExecutor) -> None:
    """Let a broken pool end.

    Before Python 3.11.7 it waits forever for a thread that writes an item into a pipe which no
    process reads any more (CPython issue 94777); as there, closing the other end wakes it up.
    """
    queue = getattr(pool, "_call_queue", None)
    if queue is not None:
        queue._reader.close()
