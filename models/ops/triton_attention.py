"""Attention's kernels as a PyTorch operator with gradients, for eager and compiled callers.

Triton itself is imported by the first call, so that machines without it can import this module.

Shape suffixes: B batch, L length, N heads, H head width.
"""

from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.library import custom_op


class _Tile(NamedTuple):
    """Queries and keys that one program works on at a time, and its number of warps."""

    queries: int
    keys: int
    warps: int


# Chosen by registers and shared memory, not by time: no GPU was at hand (docs/benchmarks/gpu.md).
# The smaller one is for heads wider than 64 and for float32, which would spill.
_TILE, _SMALL_TILE = _Tile(64, 64, warps=4), _Tile(32, 32, warps=4)


def attention(
    query_BLNH: Tensor,
    key_BLNH: Tensor,
    value_BLNH: Tensor,
    document_ids_BL: Tensor | None,
    dropout_p: float,
) -> Tensor:
    """See ``attention.document_attention``."""
    seed = torch.rand((), device=query_BLNH.device) if dropout_p > 0.0 else None
    out_BLNH, _ = _forward(query_BLNH, key_BLNH, value_BLNH, document_ids_BL, seed, dropout_p)
    return out_BLNH


@custom_op("convbert::attention_forward", mutates_args=())
def _forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    document_ids: Tensor | None,
    seed: Tensor | None,
    dropout_p: float,
) -> tuple[Tensor, Tensor]:
    """Return what attention mixes and log2 of the sum of the scores' powers, [B, N, L]."""
    query, key, value = _alike(query, key, value)
    out, normalizer = _new_outputs(query)
    with torch.cuda.device_of(query):
        _kernels().attention_forward[_grid(query, tile(query).queries)](
            query,
            key,
            value,
            _or_unread(document_ids, query),
            _or_unread(seed, query),
            out,
            normalizer,
            *query.shape[1:3],
            *query.stride()[:3],
            **constants(query, document_ids, dropout_p),
        )
    return out, normalizer


@_forward.register_fake
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    document_ids: Tensor | None,
    seed: Tensor | None,
    dropout_p: float,
) -> tuple[Tensor, Tensor]:
    return _new_outputs(query)


@custom_op("convbert::attention_backward", mutates_args=())
def _backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    document_ids: Tensor | None,
    seed: Tensor | None,
    out: Tensor,
    normalizer: Tensor,
    dropout_p: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of query, key and value."""
    query, key, value = _alike(query, key, value)
    grads = tuple(_new_contiguous(x) for x in (query, key, value))
    mean = torch.empty_like(normalizer)
    inputs = (
        grad.contiguous(),
        query,
        key,
        value,
        _or_unread(document_ids, query),
        _or_unread(seed, query),
    )
    strides = (*query.shape[1:3], *query.stride()[:3])
    compiled = constants(query, document_ids, dropout_p)
    shape = tile(query)
    with torch.cuda.device_of(query):
        _kernels().attention_query_backward[_grid(query, shape.queries)](
            *inputs, out, normalizer, mean, grads[0], *strides, **compiled
        )
        _kernels().attention_key_backward[_grid(query, shape.keys)](
            *inputs, normalizer, mean, *grads[1:], *strides, **compiled
        )
    return grads[0], grads[1], grads[2]


@_backward.register_fake
def _(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    document_ids: Tensor | None,
    seed: Tensor | None,
    out: Tensor,
    normalizer: Tensor,
    dropout_p: float,
) -> tuple[Tensor, Tensor, Tensor]:
    return _new_contiguous(query), _new_contiguous(key), _new_contiguous(value)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.dropout_p = inputs
    ctx.save_for_backward(*tensors, *output)


def _gradients(ctx: Any, grad: Tensor, _grad_normalizer: Tensor) -> tuple[Tensor | None, ...]:
    return *_backward(grad, *ctx.saved_tensors, ctx.dropout_p), None, None, None


_forward.register_autograd(_gradients, setup_context=_save)


def tile(query_BLNH: Tensor) -> _Tile:
    """Return what one program of a kernel works on."""
    small = query_BLNH.dtype.itemsize > 2 or query_BLNH.shape[-1] > 64
    return _SMALL_TILE if small else _TILE


def constants(
    query_BLNH: Tensor, document_ids_BL: Tensor | None, dropout_p: float
) -> dict[str, Any]:
    """Return how the kernels are compiled for inputs like these."""
    from convbert.models.ops import triton_kernels

    width, shape = query_BLNH.shape[-1], tile(query_BLNH)
    return {
        "WIDTH": width,
        "BLOCK_T": shape.queries,
        "BLOCK_S": shape.keys,
        "BLOCK_H": max(16, _power_of_two(width)),
        "BLOCK_L": _power_of_two(query_BLNH.shape[1]),
        "ROOT": width**-0.5,
        "LIFT": 1.0 / (1.0 - dropout_p),
        "THRESHOLD": round(dropout_p * 2**32) - 2**31,
        "PACKED": document_ids_BL is not None,
        "WIDE": triton_kernels.wide_type(query_BLNH.dtype),
        "FACTOR": triton_kernels.factor_type(query_BLNH.dtype),
        "num_warps": shape.warps,
    }


def _kernels() -> ModuleType:
    from convbert.models.ops import attention_kernels

    return attention_kernels


def _grid(query: Tensor, block: int) -> tuple[int]:
    batch, length, heads, _ = query.shape
    return (-(-length // block) * batch * heads,)


def _alike(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Keep views of one projection as they are; lay out anything else alike."""
    if query.stride() == key.stride() == value.stride() and query.stride(-1) == 1:
        return query, key, value
    return query.contiguous(), key.contiguous(), value.contiguous()


def _or_unread(given: Tensor | None, unused: Tensor) -> Tensor:
    """Return what to pass as a pointer; without the tensor it is never read."""
    return unused if given is None else given.contiguous()


def _new_outputs(query: Tensor) -> tuple[Tensor, Tensor]:
    batch, length, heads, _ = query.shape
    wide = torch.promote_types(query.dtype, torch.float32)
    return _new_contiguous(query), query.new_empty(batch, heads, length, dtype=wide)


def _new_contiguous(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _power_of_two(size: int) -> int:
    return 1 << (size - 1).bit_length()
