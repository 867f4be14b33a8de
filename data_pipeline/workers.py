"""Processes that do one job after another, of which a killed one is an error and never a wait."""

import gc
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeVar

from convbert.models.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


class WorkerDied(Exception):  # noqa: N818 - named for what happened
    """A process ended in the middle of a job; the message says how."""


class Workers:
    """Up to ``count`` spawned processes, each behind a thread and a pipe of its own.

    A pipe of its own ends with its process, whatever that was doing. (A ``ProcessPoolExecutor``
    has one for all, and waits forever for the rest of what a killed process was sending.) Leaving
    the block with an error ends the processes at once, as the end of this process does.
    """

    def __init__(self, count: int, prepare: Callable[[int], None] | None = None) -> None:
        """``prepare`` is called in each process before its first job, with its number from 0."""
        self._prepare = prepare
        self._threads = ThreadPoolExecutor(count)
        self._idle: SimpleQueue[tuple[BaseProcess, Connection]] = SimpleQueue()
        self._processes: list[BaseProcess] = []
        self._lock = threading.Lock()
        self._ending = False

    def submit(self, function: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Queue a call, which must be picklable; its future raises ``WorkerDied`` or its error."""
        return self._threads.submit(self._call, function, arguments)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._threads.shutdown(wait=error is None, cancel_futures=True)
        finally:  # also when the wait is interrupted
            with self._lock:
                self._ending = True
                for process in self._processes:
                    process.kill()
            self._threads.shutdown()
            for process in self._processes:
                process.join()

    def _call(self, function: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
        process, connection = self._worker()
        try:
            connection.send((function, arguments))
            succeeded, result = connection.recv()
        except (EOFError, OSError):
            with self._lock:
                process.join()
            raise WorkerDied(_ending(process.exitcode)) from None
        self._idle.put((process, connection))
        if not succeeded:
            raise result
        return result

    def _worker(self) -> tuple[BaseProcess, Connection]:
        """Return a process without a job, a new one if there is none."""
        try:
            return self._idle.get_nowait()
        except Empty:
            pass
        context = get_context("spawn")  # CUDA does not survive a fork
        here, there = context.Pipe()
        with self._lock, there:
            if self._ending:
                raise WorkerDied("not started")
            number = len(self._processes)
            process = context.Process(target=_serve, args=(there, self._prepare, number))
            with interrupts_put_off():
                process.start()
            self._processes.append(process)
        return process, here


def _ending(status: int | None) -> str:
    if status == -signal.SIGKILL:
        return "killed, most likely for lack of memory"
    if status is not None and status < 0:
        return f"ended by signal {-status} ({signal.strsignal(-status)})"
    return f"ended with status {status}; what it printed is above"


def _serve(connection: Connection, prepare: Callable[[int], None] | None, number: int) -> None:
    """Do jobs until the process is ended; Ctrl-C is left to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent()
    if prepare is not None:
        prepare(number)
    while True:
        function, arguments = connection.recv()
        try:
            answer = ForkingPickler.dumps((True, function(*arguments)))
        except BaseException as error:
            answer = ForkingPickler.dumps((False, _portable(error)))
        connection.send_bytes(answer)


def _portable(error: BaseException) -> BaseException:
    """Return an error that can be sent, with where it was raised among its notes."""
    error.add_note("".join(traceback.format_exception(error)).rstrip())
    try:
        ForkingPickler.loads(ForkingPickler.dumps(error))
    except Exception:
        return RuntimeError(error.__notes__[-1])
    return error


def _end_with_parent() -> None:
    """End this process when its parent is gone, however that ended."""
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def interrupts_put_off() -> Iterator[None]:
    """Start processes, and threads that start some, to which Ctrl-C never comes.

    It is this process's alone from their first moment on: the mask of signals is inherited.
    """
    resource_tracker.ensure_running()  # the first process would start it, which clears the mask
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


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


@contextmanager
def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Iterator[Result]]:
    """For a block, an iterator of ``function`` of every item in order, few of them in memory.

    ``function`` must be picklable unless ``workers`` is 1. Raises ``UserError`` if a process is
    killed. Leaving the block with an error ends the processes: an iterator alone would end them
    when it is collected, which a traceback that is kept puts off for good.
    """
    if workers == 1:
        yield map(function, items)
        return
    try:
        with Workers(workers) as pool:
            yield _in_order(pool, function, items, 2 * workers)
    except WorkerDied as death:
        raise UserError(f"workers={workers}: one was {death}; use fewer") from None


def _in_order(
    pool: Workers, function: Callable[[Item], Result], items: Iterable[Item], waiting: int
) -> Iterator[Result]:
    running: deque[Future[Result]] = deque()
    for item in items:
        running.append(pool.submit(function, item))
        if len(running) > waiting:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()
