"""Put together what trains: the optimizer, the engine around it, and its view of parameters."""

from collections.abc import Container
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from convbert.pretrain.engine.collectives import gather_objects
from convbert.pretrain.engine.engine import Engine
from convbert.pretrain.engine.fragments import fragments, shapes, update_calls
from convbert.pretrain.engine.layout import Layout
from convbert.pretrain.engine.matrices import MatrixShape, hidden_matrices
from convbert.pretrain.engine.matrix_shares import HeldPart, MatrixShares
from convbert.pretrain.engine.muon import Muon
from convbert.pretrain.engine.norms import PartNorms, layout_of
from convbert.pretrain.engine.optimizer import AdamW, Lamb, parameter_groups
from convbert.pretrain.settings.optimizer import OptimizerConfig


def build_engine(
    objective: nn.Module,
    config: dict[str, Any],
    settings: OptimizerConfig,
    *,
    held: Container[str] = (),
) -> tuple[Engine, PartNorms]:
    """Create the optimizer and the DeepSpeed engine for an objective, and its norms.

    The parameters named in ``held`` stay as they are in updates that ask for it.
    """
    matrices = hidden_matrices(objective) if settings.name == "muon" else {}
    low = any(config.get(kind, {}).get("enabled") for kind in ("bf16", "fp16"))
    groups = parameter_groups(objective, settings.weight_decay, matrices, held)
    optimizer = _optimizer(objective, settings, groups, matrices, low=low)
    engine = Engine(objective, config, optimizer)
    layout = layout_of(engine)
    if isinstance(optimizer, Lamb):
        optimizer.layout = layout
    if isinstance(optimizer, Muon):
        optimizer.shares = _shares(engine, layout, matrices)
    return engine, PartNorms(engine, layout)


def _optimizer(
    objective: nn.Module,
    settings: OptimizerConfig,
    groups: list[dict[str, Any]],
    matrices: dict[str, MatrixShape],
    *,
    low: bool,
) -> AdamW:
    adamw: dict[str, Any] = {
        "betas": settings.betas,
        "eps": settings.eps,
        "bias_correction": settings.bias_correction,
    }
    if settings.name != "muon":
        return {"adamw": AdamW, "lamb": Lamb}[settings.name](groups, **adamw)
    groups[0]["rate_ratio"] = settings.muon.learning_rate / settings.learning_rate
    in_order = {n: matrices[n] for n, _ in objective.named_parameters() if n in matrices}
    # As published in low precision on a GPU. Processors without instructions for it are slower in
    # bfloat16 than in fp32.
    dtype = torch.bfloat16 if low and torch.cuda.is_available() else None
    return Muon(
        groups,
        matrices=in_order,
        momentum=settings.muon.momentum,
        iterations=settings.muon.iterations,
        dtype=dtype,
        **adamw,
    )


def _shares(engine: Engine, layout: Layout, matrices: dict[str, MatrixShape]) -> MatrixShares:
    numbers = {name: index for index, name in enumerate(shapes(engine))}
    calls = update_calls(engine)
    own = [
        HeldPart(numbers[f.name], f.start, f.count, calls[f.tensor])
        for f in fragments(engine)
        if f.name in matrices
    ]
    return MatrixShares(
        {numbers[name]: shape for name, shape in matrices.items()},
        gather_objects(own),
        layout,
        rank=dist.get_rank(),
        calls=calls,
        device=engine.device,
    )
