"""Where the time of a step goes, measured without making the host wait for the device."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from convbert.pretrain.run.metric_names import SECTIONS

_HOST_SECTIONS = ("data", "checkpoint")


class Stopwatch:
    """Seconds spent in each of ``SECTIONS`` since they were last read.

    ``with stopwatch("forward"): ...`` measures by the host's clock on a CPU. On a GPU the work of
    forward, backward and optimizer is bracketed by events in its stream, which are looked up only
    by ``read``; that waits for the newest of them, so read where the host has waited already.
    Waiting for data and writing checkpoints are the host's work and measured by its clock always.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        self._on_device = torch.cuda.is_available()

    @contextmanager
    def __call__(self, section: str) -> Iterator[None]:
        """Add the time that the block takes to ``section``."""
        if self._on_device and section not in _HOST_SECTIONS:
            begin = torch.cuda.Event(enable_timing=True)
            end = torch.cuda.Event(enable_timing=True)
            begin.record()
            yield
            end.record()
            self._events.append((section, begin, end))
        else:
            started = time.perf_counter()
            yield
            self._seconds[section] += time.perf_counter() - started

    def read(self) -> dict[str, float]:
        """Return the seconds of every section and start again from zero."""
        if self._events:
            self._events[-1][2].synchronize()
        for section, begin, end in self._events:
            self._seconds[section] += begin.elapsed_time(end) / 1000
        seconds = {section: self._seconds[section] for section in SECTIONS}
        self._events, self._seconds = [], defaultdict(float)
        return seconds
