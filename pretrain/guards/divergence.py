"""Find a process whose copy of the replicated state differs from that of the others.

ZeRO stages 0 to 2 keep all parameters of the forward pass on every process; stage 3 only those
below its persistence threshold, so the comparison covers those and the counters.
"""

import platform
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from convbert.models.errors import UserError

_INTEGERS = {2: torch.int16, 4: torch.int32}


def fingerprints(module: nn.Module, counters: Mapping[str, int]) -> tuple[list[str], Tensor]:
    """Return names and 64-bit sums [n] of the bits of all replicated state, on the device."""
    held = {
        name: parameter.data
        for name, parameter in module.named_parameters()
        if parameter.numel() == getattr(parameter, "ds_numel", parameter.numel())
    }
    sums = [_bits(tensor).sum(dtype=torch.int64) for tensor in held.values()]
    device = sums[0].device if sums else next(module.parameters()).device
    sums += [torch.tensor(value, device=device) for value in counters.values()]
    return [*held, *counters], torch.stack(sums)


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().view(_INTEGERS[tensor.element_size()])


def deviations(table: Sequence[Sequence[int]]) -> dict[int, list[int]]:
    """Map each deviating rank to the columns in which it differs from the majority.

    ``table`` has a row per rank. Where no value has a majority, every rank deviates.
    """
    found: dict[int, list[int]] = {}
    for column, values in enumerate(zip(*table, strict=True)):
        value, count = Counter(values).most_common(1)[0]
        if count == len(values):
            continue
        majority = value if 2 * count > len(values) else None
        for rank, own in enumerate(values):
            if own != majority:
                found.setdefault(rank, []).append(column)
    return found


def check(module: nn.Module, counters: Mapping[str, int], step: int) -> None:
    """Compare all processes, together; raises ``UserError`` naming the deviating ones."""
    names, own = fingerprints(module, counters)
    gathered = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, own)
    found = deviations(torch.stack(gathered).tolist())
    if not found:
        return
    hosts: list[str | None] = [None] * len(gathered)
    dist.all_gather_object(hosts, platform.node())
    ranks = ", ".join(f"{rank} on {hosts[rank]}" for rank in found)
    columns = sorted({column for columns in found.values() for column in columns})
    others = f" and {len(columns) - 1} more" if len(columns) > 1 else ""
    doubt = "" if 2 * len(found) < len(gathered) else " (no majority: one of them is right)"
    raise UserError(
        f"step {step}: the processes have diverged: rank {ranks} holds another "
        f"'{names[columns[0]]}'{others} than the rest{doubt}; check that machine's memory and "
        "start the run again to continue from the last checkpoint"
    )
