"""The commands of a study as processes of their own, which a signal to the study ends."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import TypeVar

from rich.console import Console

from convbert.data_pipeline.log_lines import clock, now_and_then
from convbert.models.errors import UserError
from convbert.pretrain.finetune.device import visible_gpus
from convbert.pretrain.run.exit_codes import STOPPED
from convbert.pretrain.study.steps import StudyStep

Run = TypeVar("Run")


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """A signal ended the study; the same command continues it."""


class Commands:
    """Runs commands, several at a time, and ends them all when the study is stopped."""

    def __init__(self, console: Console, threads: int) -> None:
        """``threads`` is what each command may use, unless OMP_NUM_THREADS says otherwise."""
        self._console = console
        # More threads than cores wait for each other instead of computing.
        self._environment = {"OMP_NUM_THREADS": str(threads)} | os.environ
        self._alive: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopping = False

    def run(self, step: StudyStep, log: Path | None = None, gpu: str | None = None) -> None:
        """Run a step that is not done; raises ``UserError`` where its command fails.

        It sees no other GPU than ``gpu``. After ``stop`` it raises ``Stopped`` instead.
        """
        if step.done():
            return
        self._console.print(f"[dim]$ convbert {shlex.join(step.arguments)}[/dim]", soft_wrap=True)
        command = [sys.executable, "-m", "convbert.pretrain.cli", *step.arguments]
        code = self._finish(command, log, gpu)
        if code and self._stopping:
            raise Stopped
        if code:
            raise UserError(
                f"{step.title}: ended with status {code}{f'; see {log}' if log else ''}"
            )
        if not step.done():
            raise UserError(f"{step.title}: ended without its result; run the command by hand")

    def _finish(self, command: list[str], log: Path | None, gpu: str | None = None) -> int:
        """Run a command to its end and return its status; its output goes to ``log`` if given."""
        chosen = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}
        with open(log or os.devnull, "ab") as file:
            target = file if log else None
            with self._lock:
                if self._stopping:
                    return STOPPED
                # A session of its own: Ctrl-C reaches it once, through `stop`.
                process = subprocess.Popen(
                    command,
                    stdout=target,
                    stderr=target,
                    start_new_session=True,
                    env=self._environment | chosen,
                )
                self._alive.add(process)
            try:
                return process.wait()
            finally:
                with self._lock:
                    self._alive.discard(process)

    def stop(self) -> None:
        """Ask all commands to end, training with a checkpoint; start no more."""
        with self._lock:
            self._stopping = True
            for process in self._alive:
                process.send_signal(signal.SIGINT)

    @contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        """Turn SIGINT and SIGTERM into ``stop`` while the block lasts."""

        def stop(number: int, frame: FrameType | None) -> None:
            # A thread: the handler may interrupt the very code that holds the lock.
            threading.Thread(target=self.stop).start()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def side_by_side(
    runs: Sequence[Run],
    work: Callable[[Run, str | None], None],
    workers: int,
    commands: Commands,
    console: Console,
) -> None:
    """Call ``work`` with every run and its GPU, ``workers`` at once; the first error stops all."""
    began = time.monotonic()
    gpus = visible_gpus()
    free: SimpleQueue[str | None] = SimpleQueue()
    for number in range(workers):
        free.put(gpus[number % len(gpus)] if gpus else None)

    def with_a_gpu(run: Run) -> None:
        gpu = free.get()
        try:
            work(run, gpu)
        finally:
            free.put(gpu)

    ended = 0

    def state() -> str:
        return f"{ended} of {len(runs)} runs, {clock(time.monotonic() - began)} gone"

    with ThreadPoolExecutor(workers) as pool, now_and_then(state):
        futures = [pool.submit(with_a_gpu, run) for run in runs]
        for number, future in enumerate(as_completed(futures), 1):
            try:
                future.result()
            except BaseException:
                commands.stop()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
            ended = number
            hours = (time.monotonic() - began) / number * (len(runs) - number) / 3600
            console.print(f"{number} of {len(runs)} runs; about {hours:.1f} h to go")
