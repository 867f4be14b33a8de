"""Collectives on picklable objects; all processes of the run have to call them together."""

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
