"""The Triton kernels as PyTorch operators with gradients, usable eagerly and in compiled graphs.

Triton itself is imported by the first call, so that machines without it can import this module.

Shape suffixes: B batch, L length, D channels, N heads, H head width, K taps (odd).
"""

from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.library import custom_op


class _Tile(NamedTuple):
    """Positions and, of a filter, channels that one program works on, and its number of warps."""

    positions: int
    warps: int
    channels: int = 0


# The fastest of those tried on an H200 in bfloat16 (docs/benchmarks/gpu.md).
_SPAN, _SPAN_GRADIENT = _Tile(32, warps=4), _Tile(16, warps=4)
_FILTER, _FILTER_GRADIENT = _Tile(8, 1, channels=256), _Tile(4, 1, channels=256)
_CHUNK = 128  # positions of one program of the filter's gradient


def span_dynamic_conv(
    value_BLNH: Tensor, logits_BLNK: Tensor, document_ids_BL: Tensor | None
) -> Tensor:
    """See ``convolution.span_dynamic_conv``."""
    out_BLNH, _ = _span_forward(value_BLNH, logits_BLNK, document_ids_BL)
    return out_BLNH


def depthwise_conv(x_BLD: Tensor, weight_D1K: Tensor, document_ids_BL: Tensor | None) -> Tensor:
    """See ``convolution.depthwise_conv``."""
    return _depthwise_forward(x_BLD, weight_D1K, document_ids_BL)


@custom_op("convbert::span_forward", mutates_args=())
def _span_forward(
    value: Tensor, logits: Tensor, document_ids: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the mixed values and the log-sum-exp of the logits, [B, L, N]."""
    value, logits = _rows_contiguous(value), _rows_contiguous(logits)
    _, length, heads, _ = value.shape
    out, normalizer = _new_span_outputs(value)
    with torch.cuda.device_of(value):
        _kernels().span_forward[_span_grid(value, _SPAN)](
            value,
            logits,
            _documents(document_ids, value),
            out,
            normalizer,
            length,
            heads,
            *value.stride()[:3],
            *logits.stride()[:3],
            **_span_constants(value, logits, document_ids, _SPAN),
        )
    return out, normalizer


@_span_forward.register_fake
def _(value: Tensor, logits: Tensor, document_ids: Tensor | None) -> tuple[Tensor, Tensor]:
    return _new_span_outputs(value)


@custom_op("convbert::span_backward", mutates_args=())
def _span_backward(
    grad: Tensor, value: Tensor, logits: Tensor, normalizer: Tensor, document_ids: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the value and of the logits."""
    grad, value, logits = (_rows_contiguous(x) for x in (grad, value, logits))
    _, length, heads, _ = value.shape
    grad_value, grad_logits = _new_contiguous(value), _new_contiguous(logits)
    with torch.cuda.device_of(value):
        _kernels().span_backward[_span_grid(value, _SPAN_GRADIENT)](
            grad,
            value,
            logits,
            normalizer,
            _documents(document_ids, value),
            grad_value,
            grad_logits,
            length,
            heads,
            *grad.stride()[:3],
            *value.stride()[:3],
            *logits.stride()[:3],
            **_span_constants(value, logits, document_ids, _SPAN_GRADIENT),
        )
    return grad_value, grad_logits


@_span_backward.register_fake
def _(
    grad: Tensor, value: Tensor, logits: Tensor, normalizer: Tensor, document_ids: Tensor | None
) -> tuple[Tensor, Tensor]:
    return _new_contiguous(value), _new_contiguous(logits)


def _save_span(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    value, logits, document_ids = inputs
    ctx.save_for_backward(value, logits, output[1], document_ids)


def _span_gradients(
    ctx: Any, grad: Tensor, _grad_normalizer: Tensor
) -> tuple[Tensor, Tensor, None]:
    value, logits, normalizer, document_ids = ctx.saved_tensors
    return *_span_backward(grad, value, logits, normalizer, document_ids), None


_span_forward.register_autograd(_span_gradients, setup_context=_save_span)


@custom_op("convbert::depthwise_forward", mutates_args=())
def _depthwise_forward(x: Tensor, weight: Tensor, document_ids: Tensor | None) -> Tensor:
    """Return the filtered input."""
    return _filter(x, _tap_major(weight), document_ids)


@_depthwise_forward.register_fake
def _(x: Tensor, weight: Tensor, document_ids: Tensor | None) -> Tensor:
    return _new_contiguous(x)


def _filter(x: Tensor, weight_KD: Tensor, document_ids: Tensor | None) -> Tensor:
    x = _rows_contiguous(x)
    batch, length, channels = x.shape
    out = _new_contiguous(x)
    grid = batch * _blocks(length, _FILTER.positions), _blocks(channels, _FILTER.channels)
    with torch.cuda.device_of(x):
        _kernels().depthwise_forward[grid](
            x,
            weight_KD.contiguous(),
            _documents(document_ids, x),
            out,
            length,
            channels,
            *x.stride()[:2],
            **_depthwise_constants(x, weight_KD.shape[0], document_ids, _FILTER),
        )
    return out


@custom_op("convbert::depthwise_backward", mutates_args=())
def _depthwise_backward(
    grad: Tensor, x: Tensor, weight: Tensor, document_ids: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the input and of the filter."""
    grad, x = _rows_contiguous(grad), _rows_contiguous(x)
    batch, length, channels = x.shape
    taps = weight.shape[-1]
    chunks = batch * _blocks(length, _CHUNK)
    partial_weight = x.new_empty(chunks, taps, channels, dtype=_wide(x))
    grid = chunks, _blocks(channels, _FILTER_GRADIENT.channels), _blocks(taps, 3)
    with torch.cuda.device_of(x):
        _kernels().depthwise_weight_backward[grid](
            grad,
            x,
            _documents(document_ids, x),
            partial_weight,
            length,
            channels,
            *grad.stride()[:2],
            *x.stride()[:2],
            CHUNK=_CHUNK,
            **_depthwise_constants(x, taps, document_ids, _FILTER_GRADIENT),
        )
    grad_weight = partial_weight.sum(dim=0).T[:, None].to(weight.dtype)
    # "Same document" holds both ways, so the adjoint is the same sum with the filter reversed.
    grad_x = _filter(grad, _tap_major(weight).flip(0), document_ids)
    return grad_x, grad_weight.contiguous()


@_depthwise_backward.register_fake
def _(
    grad: Tensor, x: Tensor, weight: Tensor, document_ids: Tensor | None
) -> tuple[Tensor, Tensor]:
    return _new_contiguous(x), _new_contiguous(weight)


def _save_depthwise(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _depthwise_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    return *_depthwise_backward(grad, *ctx.saved_tensors), None


_depthwise_forward.register_autograd(_depthwise_gradients, setup_context=_save_depthwise)


def _kernels() -> ModuleType:
    from convbert.models.ops import triton_kernels

    return triton_kernels


def _span_grid(value: Tensor, tile: _Tile) -> tuple[int, int]:
    batch, length, heads, _ = value.shape
    return batch * _blocks(length, tile.positions), heads


def _span_constants(
    value: Tensor, logits: Tensor, document_ids: Tensor | None, tile: _Tile
) -> dict[str, Any]:
    width, taps = value.shape[-1], logits.shape[-1]
    return {
        "WIDTH": width,
        "TAPS": taps,
        "BLOCK_T": tile.positions,
        "BLOCK_S": _power_of_two(tile.positions + taps - 1),
        "BLOCK_H": max(16, _power_of_two(width)),
        "PACKED": document_ids is not None,
        "WIDE": _kernels().wide_type(value.dtype),
        "FACTOR": _kernels().factor_type(value.dtype),
        "num_warps": tile.warps,
    }


def _depthwise_constants(
    x: Tensor, taps: int, document_ids: Tensor | None, tile: _Tile
) -> dict[str, Any]:
    return {
        "TAPS": taps,
        "BLOCK_T": tile.positions,
        "BLOCK_D": tile.channels,
        "PACKED": document_ids is not None,
        "WIDE": _kernels().wide_type(x.dtype),
        "num_warps": tile.warps,
    }


def _tap_major(weight_D1K: Tensor) -> Tensor:
    """Lay the channels of one tap side by side, [K, D]."""
    return weight_D1K[:, 0].T


def _documents(document_ids: Tensor | None, unused: Tensor) -> Tensor:
    """Return what to pass as the pointer to the document ids; without any it is never read."""
    return unused if document_ids is None else document_ids.contiguous()


def _rows_contiguous(x: Tensor) -> Tensor:
    """Keep views of a larger projection as they are, as long as channels lie side by side."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _new_span_outputs(value: Tensor) -> tuple[Tensor, Tensor]:
    return _new_contiguous(value), value.new_empty(value.shape[:3], dtype=_wide(value))


def _new_contiguous(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _blocks(size: int, block: int) -> int:
    return -(-size // block)


def _power_of_two(size: int) -> int:
    return 1 << (size - 1).bit_length()
