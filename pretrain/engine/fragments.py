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

MOMENTS = ("exp_avg", "exp_avg_sq")
KINDS = ("param", *MOMENTS)


@dataclass(frozen=True)
class Fragment:
    """Elements ``start`` to ``start + count`` of a flattened parameter, held by this process.

    ``views`` maps each of ``KINDS`` to a flat fp32 view of the live state. ``owned`` is false for
    a copy that another process writes.
    """

    name: str
    start: int
    count: int
    views: dict[str, Tensor]
    owned: bool


def _flat_views(optimizer: torch.optim.Optimizer, tensor: Tensor) -> dict[str, Tensor]:
    """Return a master tensor and its moments, creating moments that no step has made yet."""
    state = optimizer.state[tensor]
    for name in MOMENTS:
        if name not in state:
            state[name] = torch.zeros_like(tensor)
    return {"param": tensor.detach().view(-1), **{name: state[name].view(-1) for name in MOMENTS}}


def _narrow(views: dict[str, Tensor], start: int, count: int) -> dict[str, Tensor]:
    return {kind: view.narrow(0, start, count) for kind, view in views.items()}


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
        views = _flat_views(engine.base_optimizer, master)
        yield Fragment(name, 0, parameter.numel(), views, owned=index % world == rank)


def _partitioned(engine: Engine, rank: int, world: int) -> Iterator[Fragment]:
    """Stages 1 and 2: one flat partition per parameter group, cut without regard to names."""
    flats = [_flat_views(engine.base_optimizer, g["params"][0]) for g in _groups(engine)]
    for name, parameter in _trainable(engine.module):
        mapping = parameter._hp_mapping  # type: ignore[attr-defined]
        if mapping is None:
            continue
        here, there = mapping.hp_fragment_address, mapping.lp_fragment_address
        views = _narrow(flats[mapping.param_group_index], here.start, here.numel)
        yield Fragment(name, there.start, there.numel, views, owned=True)


def _sharded(engine: Engine, rank: int, world: int) -> Iterator[Fragment]:
    """Stage 3: every parameter is cut into equal parts, the last one padded."""
    wrapper = engine.deepspeed.optimizer
    flats = [_flat_views(engine.base_optimizer, t) for t in wrapper.fp32_partitioned_groups_flat]
    for name, parameter in _trainable(engine.module):
        group, offset, size = wrapper.grad_position[wrapper.get_param_id(parameter)]
        start = rank * size
        count = min(size, parameter.ds_numel - start)  # type: ignore[attr-defined]
        if count > 0:
            yield Fragment(name, start, count, _narrow(flats[group], offset, count), owned=True)


_LAYOUTS: dict[int, Callable[[Engine, int, int], Iterator[Fragment]]] = {
    0: _replicated,
    1: _partitioned,
    2: _partitioned,
    3: _sharded,
}


def _groups(engine: Engine) -> list[dict[str, Any]]:
    return engine.base_optimizer.param_groups


def _trainable(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((n, p) for n, p in module.named_parameters() if p.requires_grad)


def fragments(engine: Engine) -> list[Fragment]:
    """List the fragments this process holds, in the order of the module's parameters."""
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    return list(_LAYOUTS[engine.stage](engine, rank, world))


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
