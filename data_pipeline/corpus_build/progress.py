"""What a person sees while a corpus is built, and how long each step took."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


@dataclass(frozen=True)
class Timing:
    """Wall-clock seconds of a step, and the bytes that went through it."""

    step: str
    seconds: float
    bytes: int


class BuildProgress:
    """Bars with throughput and time left on a terminal, else a line per finished step."""

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
        yield lambda done: self._progress.advance(task, done)
        timing = Timing(name, time.perf_counter() - start, total)
        self._progress.update(task, completed=total)
        self.timings.append(timing)
        if not self._shown:
            rate = timing.bytes / 1e6 / timing.seconds
            line = f"{name}: {timing.bytes / 1e6:,.1f} MB in {timing.seconds:.1f} s"
            print(f"{line} ({rate:.1f} MB/s)", file=sys.stderr, flush=True)
