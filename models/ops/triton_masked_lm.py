"""The loss's kernels as PyTorch operators, for eager and compiled callers.

Triton itself is imported by the first call, so that machines without it can import this module.

Shape suffixes: C rows of one chunk, V vocabulary.
"""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

_BLOCK, _WARPS = 4096, 8  # ids that a row's program looks at together
_GRADIENT_ROWS, _GRADIENT_BLOCK, _GRADIENT_WARPS = 32, 1024, 4


@custom_op("convbert::row_statistics", mutates_args=())
def row_statistics(
    product_CV: Tensor,
    bias_V: Tensor,
    targets_C: Tensor,
    uniform_C: Tensor,
    temperature: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return log-sum-exp, loss, sample and argmax of each row of ``product + bias``.

    ``temperature`` None is 1. Floating results are in at least float32, ids int64.
    """
    normalizer, loss, sampled, best = _new_statistics(product_CV)
    rows, vocabulary = product_CV.shape
    with torch.cuda.device_of(product_CV):
        _kernels().row_statistics[(rows,)](
            product_CV,
            bias_V.contiguous(),
            targets_C.contiguous(),
            uniform_C.contiguous(),
            uniform_C if temperature is None else temperature,
            normalizer,
            loss,
            sampled,
            best,
            vocabulary,
            product_CV.stride(0),
            **statistics_constants(product_CV, temperature is not None),
        )
    return normalizer, loss, sampled, best


@row_statistics.register_fake
def _(
    product_CV: Tensor,
    bias_V: Tensor,
    targets_C: Tensor,
    uniform_C: Tensor,
    temperature: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _new_statistics(product_CV)


@custom_op("convbert::row_gradients", mutates_args=())
def row_gradients(
    product_CV: Tensor,
    bias_V: Tensor,
    targets_C: Tensor,
    normalizer_C: Tensor,
    grad_loss_C: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return the logits' gradients, in the product's dtype, and the bias's, in at least float32."""
    rows, vocabulary = product_CV.shape
    groups = -(-rows // _GRADIENT_ROWS)
    grad, partial_bias = _new_gradient(product_CV), _new_wide(product_CV, groups, vocabulary)
    with torch.cuda.device_of(product_CV):
        _kernels().row_gradients[(groups, -(-vocabulary // _GRADIENT_BLOCK))](
            product_CV,
            bias_V.contiguous(),
            targets_C.contiguous(),
            normalizer_C.contiguous(),
            grad_loss_C.contiguous(),
            grad,
            partial_bias,
            rows,
            vocabulary,
            product_CV.stride(0),
            **gradients_constants(product_CV),
        )
    return grad, partial_bias.sum(dim=0)


@row_gradients.register_fake
def _(
    product_CV: Tensor,
    bias_V: Tensor,
    targets_C: Tensor,
    normalizer_C: Tensor,
    grad_loss_C: Tensor,
) -> tuple[Tensor, Tensor]:
    return _new_gradient(product_CV), _new_wide(product_CV, product_CV.shape[1])


def statistics_constants(product_CV: Tensor, tempered: bool) -> dict[str, Any]:
    """Return how ``row_statistics`` is compiled."""
    wide = _wide_type(product_CV)
    return {"TEMPERED": tempered, "BLOCK": _BLOCK, "WIDE": wide, "num_warps": _WARPS}


def gradients_constants(product_CV: Tensor) -> dict[str, Any]:
    """Return how ``row_gradients`` is compiled."""
    return {
        "BLOCK_R": _GRADIENT_ROWS,
        "BLOCK": _GRADIENT_BLOCK,
        "WIDE": _wide_type(product_CV),
        "num_warps": _GRADIENT_WARPS,
    }


def _kernels() -> ModuleType:
    from convbert.models.ops import masked_lm_kernels

    return masked_lm_kernels


def _wide_type(x: Tensor) -> Any:
    from convbert.models.ops import triton_kernels

    return triton_kernels.wide_type(x.dtype)


def _new_statistics(product_CV: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows = product_CV.shape[0]
    sampled, best = (product_CV.new_empty(rows, dtype=torch.int64) for _ in range(2))
    return _new_wide(product_CV, rows), _new_wide(product_CV, rows), sampled, best


def _new_gradient(product_CV: Tensor) -> Tensor:
    return torch.empty_like(product_CV, memory_format=torch.contiguous_format)


def _new_wide(product_CV: Tensor, *size: int) -> Tensor:
    return product_CV.new_empty(size, dtype=torch.promote_types(product_CV.dtype, torch.float32))
