"""Layer-wise learning rates: the lower a layer, the smaller its steps."""

import re
from typing import Any, Literal

from torch import nn

from convbert.pretrain.engine.optimizer import decays
from convbert.pretrain.finetune.model import TaskModel

Exponent = Literal["correct", "paper"]

_LAYER = re.compile(r"^encoder\.layers\.(\d+)\.")


def rate_factor(name: str, num_layers: int, decay: float, exponent: Exponent) -> float:
    """Return the learning-rate factor of a parameter of ``TaskModel``.

    The task head has 1 and each level below it ``decay`` times the one above: layer n-1, ...,
    layer 0, and the embeddings with their projection last. ``paper`` multiplies everything below
    the head by ``decay`` once more, as ELECTRA's and ConvBERT's released code does: it numbers
    the head n+2 and the last layer n, a place being left over from a removed pooler.
    """
    if not name.startswith("encoder."):
        return 1.0
    layer = _LAYER.match(name)
    depth = int(layer.group(1)) + 1 if layer else 0
    head_depth = {"correct": num_layers + 1, "paper": num_layers + 2}[exponent]
    return decay ** (head_depth - depth)


def parameter_groups(
    model: TaskModel, decay: float, exponent: Exponent, weight_decay: float
) -> list[dict[str, Any]]:
    """Split the parameters into optimizer groups; each carries its ``factor`` of the rate."""
    num_layers = model.encoder.config.num_layers
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        key = rate_factor(name, num_layers, decay, exponent), decays(name)
        groups.setdefault(key, []).append(parameter)
    return [
        {"params": params, "factor": factor, "weight_decay": weight_decay if decayed else 0.0}
        for (factor, decayed), params in groups.items()
    ]
