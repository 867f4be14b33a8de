"""How busy the machine of process 0 is, measured by MLflow's own monitors.

A thread samples every few seconds. The training thread only writes the samples to
``metrics.jsonl``, so they are delivered like all other records, also after an outage of the server,
and nothing waits for them. NVIDIA GPUs need ``nvidia-ml-py``.
"""

import logging
import platform
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from convbert.pretrain.tracking.records import SystemRecord, now

logger = logging.getLogger(__name__)

_PATIENCE_SECONDS = 5.0


class SystemSampler:
    """The thread that samples the machine; its failures never reach training."""

    def __init__(self, seconds: float, folder: Path) -> None:
        """Sample every ``seconds``; of the disks, the one that holds ``folder``."""
        self._seconds = seconds
        self._folder = folder
        self._samples: deque[SystemRecord] = deque(maxlen=10_000)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="system-metrics", daemon=True)
        self._thread.start()

    def take(self) -> Iterator[SystemRecord]:
        """Yield the samples since the last call, without waiting."""
        while self._samples:
            yield self._samples.popleft()

    def stop(self) -> None:
        """Take a last sample and end the thread, without waiting for a driver that hangs."""
        self._stopping.set()
        self._thread.join(_PATIENCE_SECONDS)

    def _work(self) -> None:
        try:
            monitors = _monitors()
            while not self._stopping.wait(self._seconds):
                self._sample(monitors)
            self._sample(monitors)
        except Exception as error:  # a driver that went away, a device that fell off the bus
            logger.warning("system metrics end here: %s", error)

    def _sample(self, monitors: list[Any]) -> None:
        disk = psutil.disk_usage(str(self._folder))
        measured = {
            "disk_usage_percentage": disk.percent,
            "disk_usage_megabytes": disk.used / 1e6,
            "disk_available_megabytes": disk.free / 1e6,
        }
        for monitor in monitors:
            monitor.collect_metrics()
            measured |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        self._samples.append(SystemRecord(platform.node(), now(), measured))


def _monitors() -> list[Any]:
    """Return MLflow's monitors of what this machine has; its disk monitor knows only ``/``."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
    from mlflow.system_metrics.metrics.rocm_monitor import ROCMMonitor

    # A GPU that lacks one of the measures would be warned about at every sample.
    logging.getLogger("mlflow.system_metrics").setLevel(logging.ERROR)
    psutil.cpu_percent()  # measures since the last call
    monitors: list[Any] = [CPUMonitor()]
    if psutil.net_io_counters() is not None:  # none in a container without a network
        monitors.append(NetworkMonitor())
    for gpus in (GPUMonitor, ROCMMonitor):
        try:
            monitors.append(gpus())
        except (ImportError, RuntimeError):  # neither the library nor the driver
            continue
    return monitors
