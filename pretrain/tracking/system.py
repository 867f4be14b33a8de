"""How busy the machine of rank 0 is, under the names of MLflow's system metrics.

A thread looks every few seconds; the training thread only takes what was found and writes it to
``metrics.jsonl``, so these records are delivered like all others, also after an outage of the
server, and nothing waits for them. GPUs need ``nvidia-ml-py``.
"""

import logging
import platform
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from convbert.pretrain.tracking.metrics_log import SystemRecord, now

logger = logging.getLogger(__name__)

MEGA = 1e6
_PATIENCE = 5.0


class SystemSampler:
    """The thread that looks at the machine; its failures never reach training."""

    def __init__(self, seconds: float, folder: Path) -> None:
        """Look every ``seconds``; of the disks, at the one that holds ``folder``."""
        self._seconds = seconds
        self._folder = folder
        self._found: deque[SystemRecord] = deque(maxlen=10_000)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="system-metrics", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def take(self) -> Iterator[SystemRecord]:
        """Yield what was found since the last call; waits for nothing."""
        while self._found:
            yield self._found.popleft()

    def stop(self) -> None:
        """Look a last time and end the thread; a driver that hangs is not waited for."""
        self._stopping.set()
        self._thread.join(_PATIENCE)

    def _work(self) -> None:
        try:
            measures = [_processor(), _disk(self._folder), _network(), *_gpus()]
            while not self._stopping.wait(self._seconds):
                self._look(measures)
            self._look(measures)
        except Exception as error:  # a driver that went away, a device that fell off the bus
            logger.warning("system metrics end here: %s", error)

    def _look(self, measures: list[Callable[[], dict[str, float]]]) -> None:
        values = {key: value for measure in measures for key, value in measure().items()}
        self._found.append(SystemRecord(platform.node(), now(), values))


def _processor() -> Callable[[], dict[str, float]]:
    psutil.cpu_percent()  # measures since the last call

    def measure() -> dict[str, float]:
        memory = psutil.virtual_memory()
        return {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / MEGA,
            "system_memory_usage_percentage": 100 * memory.used / memory.total,
        }

    return measure


def _disk(folder: Path) -> Callable[[], dict[str, float]]:
    def measure() -> dict[str, float]:
        usage = psutil.disk_usage(str(folder))
        return {
            "disk_usage_percentage": usage.percent,
            "disk_usage_megabytes": usage.used / MEGA,
            "disk_available_megabytes": usage.free / MEGA,
        }

    return measure


def _network() -> Callable[[], dict[str, float]]:
    before = psutil.net_io_counters()

    def measure() -> dict[str, float]:
        counted = psutil.net_io_counters()
        if before is None or counted is None:  # a container without a network
            return {}
        return {
            "network_receive_megabytes": (counted.bytes_recv - before.bytes_recv) / MEGA,
            "network_transmit_megabytes": (counted.bytes_sent - before.bytes_sent) / MEGA,
        }

    return measure


def _gpus() -> list[Callable[[], dict[str, float]]]:
    """Return a measure for each NVIDIA GPU of the machine."""
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no driver
        return []
    numbers = range(pynvml.nvmlDeviceGetCount())
    return [_gpu(pynvml, n, pynvml.nvmlDeviceGetHandleByIndex(n)) for n in numbers]


def _gpu(nvml: Any, number: int, handle: Any) -> Callable[[], dict[str, float]]:
    def measure() -> dict[str, float]:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        found = {
            "utilization_percentage": float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
            "memory_usage_megabytes": memory.used / MEGA,
            "memory_usage_percentage": 100 * memory.used / memory.total,
            "power_usage_watts": nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
        }
        return {f"gpu_{number}_{key}": value for key, value in found.items()}

    return measure
