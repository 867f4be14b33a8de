"""Speed, share of the peak rate, where the time goes, and memory."""

import resource
import sys
import time

import torch
import torch.distributed as dist

from convbert.pretrain.engine.gpus import known_peak
from convbert.pretrain.engine.stopwatch import Stopwatch
from convbert.pretrain.run import metric_names
from convbert.pretrain.run.metric_names import SECTIONS

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def peak_flops(device: torch.device, precision: str, configured: float | None) -> float:
    """Return the FLOP/s that one process can reach at most, for the model FLOPs utilization.

    That is the configured figure, the data sheet's for a known GPU in a 16-bit precision, or else
    the best of a few matrix products in the run's precision on this device, timed now.
    """
    if configured is not None:
        return configured
    if device.type == "cuda" and precision != "fp32":
        known = known_peak(torch.cuda.get_device_name(device))
        if known is not None:
            return known
    return _measure(device, _DTYPES[precision])


def _measure(device: torch.device, dtype: torch.dtype) -> float:
    size = 4096 if device.type == "cuda" else 512
    left = torch.randn(size, size, device=device).to(dtype)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        product = left @ left
        product[0, 0].item()  # waits for the device
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


class Meter:
    """Speed, utilization and memory since the last reading, of the slowest or fullest process."""

    def __init__(self, stopwatch: Stopwatch, device: torch.device, peak: float) -> None:
        """Take the peak in FLOP/s of one process."""
        self._stopwatch = stopwatch
        self._device = device
        self._peak = peak
        self._started = time.monotonic()

    def start(self) -> None:
        """Begin to measure."""
        self._stopwatch.read()
        self._started = time.monotonic()

    def read(self, updates: int, tokens: float, flops: float) -> dict[str, float]:
        """Return the metrics of ``updates`` that took ``tokens`` real tokens and hardware FLOPs.

        Every process must call it; times are seconds per update, memory is in bytes.
        """
        sections = self._stopwatch.read()
        now = time.monotonic()
        seconds, self._started = now - self._started, now
        worst = torch.tensor(
            [*sections.values(), _host_bytes(), _device_bytes(self._device)],
            dtype=torch.float64,
            device=self._device,
        )
        dist.all_reduce(worst, dist.ReduceOp.MAX)
        *times, host, device = worst.tolist()
        metrics = {
            metric_names.TOKENS_PER_SECOND: tokens / seconds,
            metric_names.STEP_SECONDS: seconds / updates,
            metric_names.PROCESSES: float(dist.get_world_size()),
            metric_names.MFU: flops / seconds / self._peak / dist.get_world_size(),
            metric_names.HOST_PEAK_BYTES: host,
        }
        if device:
            metrics[metric_names.DEVICE_PEAK_BYTES] = device
        shares = zip(SECTIONS, times, strict=True)
        return metrics | {
            metric_names.section_seconds(name): total / updates for name, total in shares
        }


def _host_bytes() -> float:
    """Return this process's largest resident size so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def _device_bytes(device: torch.device) -> float:
    """Return the most memory that tensors took on the GPU so far, or 0 without one."""
    return float(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else 0.0
