"""Compile one layer of an encoder and let all that are alike use it."""

from torch import nn

from convbert.models.encoder import Encoder, call_layer
from convbert.models.ops.compilation import compiled_for_training


def compile_layers(module: nn.Module) -> None:
    """Compile one layer of each kind in ``module`` for training and call every layer so.

    Compiling a network as a whole takes as much longer as it has layers. In evaluation, where
    shapes change from batch to batch, layers run as they are.
    """
    compiled = compiled_for_training(call_layer)
    for part in module.modules():
        if isinstance(part, Encoder):
            part.call_layer = compiled
