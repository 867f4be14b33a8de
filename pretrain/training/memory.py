"""Why a training process was killed: what it took of the memory, and what there is."""

import time
from collections.abc import Sequence
from pathlib import Path

import psutil

_INTERVAL_SECONDS = 1.0
_GB = 1e9
_CGROUPS = Path("/sys/fs/cgroup")


class MemoryWatch:
    """Looks at the memory of processes now and then, for when one of them is killed."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = list(pids)
        self._peaks = [0] * len(self._pids)
        self._kills = _kills()
        self._looked = 0.0

    def look(self) -> None:
        """Note the memory of each process, once a second."""
        if time.monotonic() - self._looked < _INTERVAL_SECONDS:
            return
        self._looked = time.monotonic()
        for rank, pid in enumerate(self._pids):
            try:
                self._peaks[rank] = max(self._peaks[rank], psutil.Process(pid).memory_info().rss)
            except psutil.Error:  # it has ended
                continue

    def explain(self, ranks: Sequence[int]) -> str:
        """Say in one line what became of processes that SIGKILL ended, and what to do."""
        who = ", ".join(f"{rank} ({self._peaks[rank] / _GB:.2f} GB)" for rank in ranks)
        killer = "the out-of-memory killer of the kernel ended it"
        if _kills() <= self._kills:
            killer = f"if nobody did that by hand, {killer}"
        limit, place = _limit()
        return (
            f"rank {who} was killed (SIGKILL): {killer}; all processes took "
            f"{sum(self._peaks) / _GB:.2f} GB when last seen, {place} has {limit / _GB:.2f} GB; "
            "lower micro_batch, use fewer processes or activation_checkpointing=true, then start "
            "the run again to continue from its last checkpoint"
        )


def _own_groups() -> list[Path]:
    """Return this process's control group and those around it, where the system has them."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    own = next((line.split(":", 2)[2] for line in lines if line.startswith("0::")), None)
    if own is None:
        return []
    folder = _CGROUPS / own.lstrip("/")
    return [f for f in (folder, *folder.parents) if f.is_relative_to(_CGROUPS)]


def _kills() -> int:
    """Return how many processes of this control group the kernel has killed for lack of memory."""
    for folder in _own_groups():
        try:
            events = dict(line.split() for line in (folder / "memory.events").open())
        except OSError:
            continue
        return int(events.get("oom_kill", 0))
    return 0


def _limit() -> tuple[float, str]:
    """Return the bytes that these processes may take together, and who sets that."""
    found: list[tuple[float, str]] = [(float(psutil.virtual_memory().total), "the machine")]
    for folder in _own_groups():
        try:
            text = (folder / "memory.max").read_text().strip()
        except OSError:
            continue
        if text != "max":
            found.append((float(text), "the control group"))
    return min(found)
