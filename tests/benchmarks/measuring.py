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
    """One way of doing the work: ``run`` does it once; ``resident_bytes`` are its parameters.

    ``flops`` are the multiply-adds of a call, counted twice each, and ``bytes`` what a call has to
    read and write at least; either is 0 where it says nothing.
    """

    name: str
    run: Callable[[], object]
    resident_bytes: int = 0
    flops: float = 0.0
    bytes: float = 0.0


@dataclass(frozen=True)
class Comparison:
    """Contenders for the same work; ratios are taken to the first of them.

    ``tokens`` are those of one call. ``tensors`` says that the memory is PyTorch's and can be
    measured; ``rivals`` that the contenders do the same work, so that ratios mean something.
    """

    title: str
    tokens: int
    contenders: Sequence[Contender]
    tensors: bool = True
    rivals: bool = True
    notes: Sequence[str] = field(default_factory=list)


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


@dataclass(frozen=True)
class Rates:
    """What the machine can do: operations of a matrix product and bytes of a copy, per second."""

    gemm: float
    copy: float


def measure(comparison: Comparison, *, seconds: float) -> list[Result]:
    """Run the contenders in turns for about ``seconds`` seconds, after warming each up."""
    contenders = comparison.contenders
    first = {c.name: _timed(c.run) for c in contenders}
    for contender in contenders:
        for _ in range(WARM_UP_CALLS - 1):
            contender.run()
    peaks = dict.fromkeys(first, 0)
    if comparison.tensors:
        peaks = {c.name: c.resident_bytes + peak_bytes(c.run) for c in contenders}
    times: dict[str, list[float]] = {c.name: [] for c in contenders}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[contenders[0].name]) < MIN_ROUNDS:
        for contender in contenders:
            times[contender.name].append(_timed(contender.run))
    return [Result(c, times[c.name], peaks[c.name], first[c.name]) for c in contenders]


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


def measure_rates(dtype: torch.dtype, device: str, *, calls: int = 7) -> Rates:
    """Measure the best rates of a large matrix product and of a large copy."""
    size = 8192 if device == "cuda" else 2048
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    product = min(_timed(lambda: left @ right) for _ in range(calls))
    # Several times the last cache of the processors there are.
    source = torch.ones(1 << 28, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = min(_timed(lambda: target.copy_(source)) for _ in range(calls))
    return Rates(2 * size**3 / product, 2 * source.numel() / copy)


def _timed(run: Callable[[], object]) -> float:
    synchronize()
    start = time.perf_counter()
    run()
    synchronize()
    return time.perf_counter() - start


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
