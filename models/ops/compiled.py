"""The sliced operators, each compiled on its own for callers that run eagerly.

Inside a model that is being compiled there is nothing left to do: the slices are traced with the
rest of the graph.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from convbert.models.ops import slices


def span_dynamic_conv(
    value_BLNH: Tensor, logits_BLNK: Tensor, document_ids_BL: Tensor | None
) -> Tensor:
    """See ``convolution.span_dynamic_conv``."""
    return _in_graph(slices.span_dynamic_conv)(value_BLNH, logits_BLNK, document_ids_BL)


def depthwise_conv(x_BLD: Tensor, weight_D1K: Tensor, document_ids_BL: Tensor | None) -> Tensor:
    """See ``convolution.depthwise_conv``."""
    return _in_graph(slices.depthwise_conv)(x_BLD, weight_D1K, document_ids_BL)


def _in_graph(operator: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return operator if torch.compiler.is_compiling() else _compile(operator)


@functools.cache
def _compile(operator: Callable[..., Tensor]) -> Callable[..., Any]:
    return torch.compile(operator)
