"""Put together what trains: the optimizer, the engine around it, and its view of parameters."""

from typing import Any

from torch import nn

from convbert.pretrain.engine.engine import Engine
from convbert.pretrain.engine.norms import PartNorms, layout_of
from convbert.pretrain.engine.optimizer import OPTIMIZERS, Lamb, parameter_groups
from convbert.pretrain.settings.optimizer import OptimizerConfig


def build_engine(
    objective: nn.Module, config: dict[str, Any], settings: OptimizerConfig
) -> tuple[Engine, PartNorms]:
    """Create the optimizer and the DeepSpeed engine for an objective, and its norms."""
    optimizer = OPTIMIZERS[settings.name](
        parameter_groups(objective, settings.weight_decay),
        betas=settings.betas,
        eps=settings.eps,
        bias_correction=settings.bias_correction,
    )
    engine = Engine(objective, config, optimizer)
    layout = layout_of(engine)
    if isinstance(optimizer, Lamb):
        optimizer.layout = layout
    return engine, PartNorms(engine, layout)
