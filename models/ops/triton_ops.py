"""The Triton kernels as PyTorch operators with gradients, usable eagerly and in compiled graphs.

Triton itself is imported by the first call, so that machines without it can import this module.

Shape suffixes: B batch, L length, D channels, N heads, H head width, K taps (odd).
"""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

_SPAN_POSITIONS = 32
_DEPTHWISE_POSITIONS = 64
_DEPTHWISE_CHANNELS = 64
# Few registers per thread: these kernels wait for memory, so more threads in flight serve best.
_WARPS = 8


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
    out, normaliser = _new_span_outputs(value)
    with torch.cuda.device_of(value):
        _kernels().span_forward[_span_grid(value)](
            value,
            logits,
            _documents(document_ids, value),
            out,
            normaliser,
            length,
            heads,
            *value.stride()[:3],
            *logits.stride()[:3],
            **_span_constants(value, logits, document_ids),
        )
    return out, normaliser


@_span_forward.register_fake
def _(value: Tensor, logits: Tensor, document_ids: Tensor | None) -> tuple[Tensor, Tensor]:
    return _new_span_outputs(value)


@custom_op("convbert::span_backward", mutates_args=())
def _span_backward(
    grad: Tensor, value: Tensor, logits: Tensor, normaliser: Tensor, document_ids: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the value and of the logits."""
    grad, value, logits = (_rows_contiguous(x) for x in (grad, value, logits))
    _, length, heads, _ = value.shape
    grad_value, grad_logits = _new_contiguous(value), _new_contiguous(logits)
    with torch.cuda.device_of(value):
        _kernels().span_backward[_span_grid(value)](
            grad,
            value,
            logits,
            normaliser,
            _documents(document_ids, value),
            grad_value,
            grad_logits,
            length,
            heads,
            *grad.stride()[:3],
            *value.stride()[:3],
            *logits.stride()[:3],
            **_span_constants(value, logits, document_ids),
        )
    return grad_value, grad_logits


@_span_backward.register_fake
def _(
    grad: Tensor, value: Tensor, logits: Tensor, normaliser: Tensor, document_ids: Tensor | None
) -> tuple[Tensor, Tensor]:
    return _new_contiguous(value), _new_contiguous(logits)


def _save_span(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    value, logits, document_ids = inputs
    ctx.save_for_backward(value, logits, output[1], document_ids)


def _span_gradients(
    ctx: Any, grad: Tensor, _grad_normaliser: Tensor
) -> tuple[Tensor, Tensor, None]:
    value, logits, normaliser, document_ids = ctx.saved_tensors
    return *_span_backward(grad, value, logits, normaliser, document_ids), None


_span_forward.register_autograd(_span_gradients, setup_context=_save_span)


@custom_op("convbert::depthwise_forward", mutates_args=())
def _depthwise_forward(x: Tensor, weight: Tensor, document_ids: Tensor | None) -> Tensor:
    """Return the filtered input."""
    x, weight = _rows_contiguous(x), weight.contiguous()
    _, length, channels = x.shape
    out = _new_contiguous(x)
    with torch.cuda.device_of(x):
        _kernels().depthwise_forward[_depthwise_grid(x)](
            x,
            weight,
            _documents(document_ids, x),
            out,
            length,
            channels,
            *x.stride()[:2],
            **_depthwise_constants(x, weight, document_ids),
        )
    return out


@_depthwise_forward.register_fake
def _(x: Tensor, weight: Tensor, document_ids: Tensor | None) -> Tensor:
    return _new_contiguous(x)


@custom_op("convbert::depthwise_backward", mutates_args=())
def _depthwise_backward(
    grad: Tensor, x: Tensor, weight: Tensor, document_ids: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the input and of the filter."""
    grad, x, weight = _rows_contiguous(grad), _rows_contiguous(x), weight.contiguous()
    _, length, channels = x.shape
    grid = _depthwise_grid(x)
    grad_x = _new_contiguous(x)
    partial_weight = x.new_empty(grid[0], weight.shape[-1], channels, dtype=_wide(x))
    with torch.cuda.device_of(x):
        _kernels().depthwise_backward[grid](
            grad,
            x,
            weight,
            _documents(document_ids, x),
            grad_x,
            partial_weight,
            length,
            channels,
            *grad.stride()[:2],
            *x.stride()[:2],
            **_depthwise_constants(x, weight, document_ids),
        )
    grad_weight = partial_weight.sum(dim=0).T[:, None].to(weight.dtype)
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


def _span_grid(value: Tensor) -> tuple[int, int]:
    batch, length, heads, _ = value.shape
    return batch * _blocks(length, _SPAN_POSITIONS), heads


def _depthwise_grid(x: Tensor) -> tuple[int, int]:
    batch, length, channels = x.shape
    return batch * _blocks(length, _DEPTHWISE_POSITIONS), _blocks(channels, _DEPTHWISE_CHANNELS)


def _span_constants(value: Tensor, logits: Tensor, document_ids: Tensor | None) -> dict[str, Any]:
    width, taps = value.shape[-1], logits.shape[-1]
    return {
        "WIDTH": width,
        "TAPS": taps,
        "BLOCK_T": _SPAN_POSITIONS,
        "BLOCK_H": _power_of_two(width),
        "BLOCK_K": _power_of_two(taps),
        "PACKED": document_ids is not None,
        "WIDE": _kernels().wide_type(value.dtype),
        "num_warps": _WARPS,
    }


def _depthwise_constants(x: Tensor, weight: Tensor, document_ids: Tensor | None) -> dict[str, Any]:
    return {
        "TAPS": weight.shape[-1],
        "BLOCK_T": _DEPTHWISE_POSITIONS,
        "BLOCK_D": _DEPTHWISE_CHANNELS,
        "PACKED": document_ids is not None,
        "WIDE": _kernels().wide_type(x.dtype),
        "num_warps": _WARPS,
    }


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
