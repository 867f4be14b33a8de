"""Training state as named fp32 fragments, whatever the ZeRO stage.

DeepSpeed keeps fp32 parameters and moments in flat partitions whose layout depends on the stage
and the world size. A *fragment* is the part of one named parameter that this process holds,
together with views of its moments. Checkpoints are written from fragments and read into them, so
a checkpoint knows nothing of stages, partitions or the number of processes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from convbert.pretrain.engine.engine import Engine


@dataclass(frozen=True)
class Fragment:
    """Elements ``start`` to ``start + count`` of a flattened parameter, held by this process.

    ``views`` has flat fp32 views of the live state: ``param`` and each of its moments. ``tensor``
    is the address of the optimizer's tensor that it lies in. ``owned`` is false for a copy that
    another process writes.
    """

    name: str
    start: int
    count: int
    views: dict[str, Tensor]
    owned: bool
    tensor: int = 0


def _part(
    engine: Engine, name: str, tensor: Tensor, offset: int, start: int, count: int, owned: bool
) -> Fragment:
    """Return ``count`` elements from ``offset`` of a master tensor, which belong to a parameter."""
    state = engine.base_optimizer.state[tensor]
    views = {"param": tensor.detach()}
    for moment in engine.base_optimizer.moments(name):
        if moment not in state:  # no step has made it yet
            state[moment] = torch.zeros_like(tensor)
        views[moment] = state[moment]
    cut = {kind: whole.view(-1).narrow(0, offset, count) for kind, whole in views.items()}
    return Fragment(name, start, count, cut, owned, tensor.data_ptr())


def _replicated(engine: Engine, rank: int, world: int) -> Iterator[Fragment]:
    """Stage 0: every process holds everything; each writes its share of the names."""
    wrapper = engine.deepspeed.optimizer
    masters = {
        id(low): master
        for lows, highs in zip(
            getattr(wrapper, "fp16_groups", ()), getattr(wrapper, "fp32_groups", ()), strict=True
        )
        for low, master in zip(lows, highs, strict=True)
    }
    for index, (name, parameter) in enumerate(_trainable(engine.module)):
        master = masters.get(id(parameter), parameter)
        yield _part(engine, name, master, 0, 0, parameter.numel(), index % world == rank)


def _partitioned(engine: Engine, rank: int, world: int) -> Iterator[Fragment]:
    """Stages 1 and 2: one flat partition per parameter group, cut without regard to names."""
    flats = [group["params"][0] for group in engine.base_optimizer.param_groups]
    for name, parameter in _trainable(engine.module):
        mapping = parameter._hp_mapping  # type: ignore[attr-defined]
        if mapping is None:
            continue
        here, there = mapping.hp_fragment_address, mapping.lp_fragment_address
        flat = flats[mapping.param_group_index]
        yield _part(engine, name, flat, here.start, there.start, there.numel, True)


def _sharded(engine: Engine, rank: int, world: int) -> Iterator[Fragment]:
    """Stage 3: every parameter is cut into equal parts, the last one padded."""
    wrapper = engine.deepspeed.optimizer
    flats = wrapper.fp32_partitioned_groups_flat
    for name, parameter in _trainable(engine.module):
        group, offset, size = wrapper.grad_position[wrapper.get_param_id(parameter)]
        start = rank * size
        count = min(size, parameter.ds_numel - start)  # type: ignore[attr-defined]
        if count > 0:
            yield _part(engine, name, flats[group], offset, start, count, True)


_LAYOUTS: dict[int, Callable[[Engine, int, int], Iterator[Fragment]]] = {
    0: _replicated,
    1: _partitioned,
    2: _partitioned,
    3: _sharded,
}


def _trainable(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((n, p) for n, p in module.named_parameters() if p.requires_grad)


def fragments(engine: Engine) -> list[Fragment]:
    """List the fragments this process holds, in the order of the module's parameters."""
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    return list(_LAYOUTS[engine.stage](engine, rank, world))


def update_calls(engine: Engine) -> dict[int, int]:
    """Return, by its address, which call of the optimizer in an update has each master tensor.

    Stage 3 calls it once for each of its groups of parameters, the other stages once for all.
    """
    if engine.stage == 3:
        flats = engine.deepspeed.optimizer.fp32_partitioned_groups_flat
        return {flat.data_ptr(): number for number, flat in enumerate(flats)}
    return {fragment.tensor: 0 for fragment in fragments(engine)}


def shapes(engine: Engine) -> dict[str, tuple[int, ...]]:
    """Return the full shape of every trainable parameter."""
    return {
        name: tuple(getattr(parameter, "ds_shape", parameter.shape))
        for name, parameter in _trainable(engine.module)
    }


Reader = Callable[[str, str, int, int], Tensor]


@torch.no_grad()
def restore(engine: Engine, read: Reader) -> None:
    """Fill the live state from ``read(kind, name, start, count)``, which returns flat fp32.

    The low-precision parameters of the forward pass are rounded from the same fp32 values, so a
    restored process continues bit for bit.
    """
    for fragment in fragments(engine):
        for kind, view in fragment.views.items():
            view.copy_(read(kind, fragment.name, fragment.start, fragment.count))
    refresh = _refresh_shard if engine.stage == 3 else _refresh_replica
    for name, parameter in _trainable(engine.module):
        refresh(name, parameter, read)


def _refresh_replica(name: str, parameter: nn.Parameter, read: Reader) -> None:
    parameter.data.copy_(read("param", name, 0, parameter.numel()).view_as(parameter))


def _refresh_shard(name: str, parameter: Any, read: Reader) -> None:
    full = read("param", name, 0, parameter.ds_numel)
    shard = parameter.ds_tensor
    start = torch.distributed.get_rank() * shard.numel()
    count = max(0, min(shard.numel(), parameter.ds_numel - start))
    shard.data.view(-1)[:count].copy_(full[start : start + count])
    if parameter.data.numel() == parameter.ds_numel:  # kept whole: below the persistence threshold
        parameter.data.copy_(full.view(parameter.ds_shape))
