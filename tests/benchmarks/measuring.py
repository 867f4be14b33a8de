"""Timing of rivals in turns, and the memory their tensors take."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch.profiler import ProfilerActivity, profile

WARM_UP_CALLS = 2
MIN_ROUNDS = 5


@dataclass(frozen=True)
class Contender:
    """One way of doing the work: ``run`` does it once; ``resident_bytes`` are its parameters."""

    name: str
    run: Callable[[], object]
    resident_bytes: int = 0


@dataclass(frozen=True)
class Comparison:
    """Contenders for the same work; ratios are taken to the first of them.

    ``tokens`` are those of one call; ``flops`` maps a contender to the multiply-adds of a call,
    counted twice each, where they say something.
    """

    title: str
    tokens: int
    contenders: Sequence[Contender]
    flops: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What one contender took: seconds of every round, and peak bytes of one call."""

    contender: Contender
    seconds: list[float]
    peak_bytes: int
    first_call_seconds: float

    @property
    def median(self) -> float:
        """Median seconds of a call."""
        return statistics.median(self.seconds)

    def speedup_over(self, baseline: "Result") -> float:
        """Median over rounds of how many times faster than the baseline this was.

        Pairing within a round cancels what the machine's other users do to both.
        """
        pairs = zip(baseline.seconds, self.seconds, strict=True)
        return statistics.median(theirs / ours for theirs, ours in pairs)


def measure(comparison: Comparison, *, seconds: float) -> list[Result]:
    """Run the contenders in turns for about ``seconds`` seconds, after warming each up."""
    first = {c.name: _timed(c.run) for c in comparison.contenders}
    for contender in comparison.contenders:
        for _ in range(WARM_UP_CALLS - 1):
            contender.run()
    peaks = {c.name: c.resident_bytes + peak_bytes(c.run) for c in comparison.contenders}
    times: dict[str, list[float]] = {c.name: [] for c in comparison.contenders}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[comparison.contenders[0].name]) < MIN_ROUNDS:
        for contender in comparison.contenders:
            times[contender.name].append(_timed(contender.run))
    return [Result(c, times[c.name], peaks[c.name], first[c.name]) for c in comparison.contenders]


def peak_bytes(run: Callable[[], object]) -> int:
    """Return how far the allocator rises above its level before the call."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    kineto = recorded.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = sorted((e.start_ns(), e.nbytes()) for e in kineto if e.name() == "[memory]")
    level = peak = 0
    for _, change in changes:
        level += change
        peak = max(peak, level)
    return peak


def gemm_rate(dtype: torch.dtype, device: str, *, size: int = 2048, calls: int = 7) -> float:
    """Return the best rate of a large matrix product in operations per second."""
    if device == "cuda":
        size *= 4
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = min(_timed(lambda: left @ right) for _ in range(calls))
    return 2 * size**3 / best


def _timed(run: Callable[[], object]) -> float:
    _synchronize()
    start = time.perf_counter()
    run()
    _synchronize()
    return time.perf_counter() - start


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
