"""Collectives on picklable objects, which all processes call together, and their failures."""

import re
import traceback
from typing import Any

import torch.distributed as dist


def broadcast_from_first(value: Any) -> Any:
    """Return process 0's value on every process."""
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def gather_objects(value: Any) -> list[Any]:
    """Return every process's value, by rank, on every process."""
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def lost_peer(error: RuntimeError) -> str | None:
    """Return what a collective says that other processes left alone; None for another error.

    NCCL's errors have a class of their own; gloo's are known by the place that raises them.
    """
    frames = traceback.walk_tb(error.__traceback__)
    innermost = [frame.f_globals.get("__name__", "") for frame, _ in frames][-1:]
    if not isinstance(error, dist.DistError) and not (
        innermost and innermost[0].startswith("torch.distributed.")
    ):
        return None
    first = (str(error).splitlines() or [""])[0]
    return re.sub(r"^\[\S+\] ", "", first).split(". ")[0]  # without its place in the source
