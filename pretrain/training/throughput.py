"""Speed, share of the peak rate, where the time goes, and memory, while a run trains."""

import resource
import sys
import time

import torch
import torch.distributed as dist

from convbert.pretrain.engine.stopwatch import Stopwatch
from convbert.pretrain.run import metric_names
from convbert.pretrain.run.metric_names import SECTIONS


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
