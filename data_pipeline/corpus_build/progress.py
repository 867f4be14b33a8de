"""What a person sees while a corpus is built, and how long each step took."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from convbert.data_pipeline.log_lines import clock, now_and_then


@dataclass(frozen=True)
class Timing:
    """Wall-clock seconds of a step, and the bytes that went through it."""

    step: str
    seconds: float
    bytes: int


class BuildProgress:
    """Bars with throughput and time left on a terminal, else a line now and then and per step."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._shown = console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=None),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not self._shown,
        )
        self.timings: list[Timing] = []

    def __enter__(self) -> "BuildProgress":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @contextmanager
    def step(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        """Return the function to call with the bytes done in a step of ``total`` bytes."""
        task = self._progress.add_task(name, total=total)
        start = time.perf_counter()
        shown = next(found for found in self._progress.tasks if found.id == task)
        with nullcontext() if self._shown else now_and_then(lambda: _line(shown)):
            yield lambda done: self._progress.advance(task, done)
        timing = Timing(name, time.perf_counter() - start, total)
        self._progress.update(task, completed=total)
        self.timings.append(timing)
        if not self._shown:
            rate = timing.bytes / 1e6 / timing.seconds
            line = f"{name}: {timing.bytes / 1e6:,.1f} MB in {timing.seconds:.1f} s"
            print(f"{line} ({rate:.1f} MB/s)", file=sys.stderr, flush=True)


def _line(task: Task) -> str:
    done, total, elapsed = task.completed / 1e6, (task.total or 0) / 1e6, task.elapsed or 0.0
    line = f"{task.description}: {done:,.1f} of {total:,.1f} MB, {clock(elapsed)} gone"
    left = task.time_remaining
    return line if left is None else f"{line}, about {clock(left)} left"
