"""The local operators as sums over K shifted slices, with gradients written out.

No window of K neighbors is ever stored: memory stays at the size of the input. Run one by one the
slices are in-place multiply-adds; under ``torch.compile`` they become a single loop each for the
forward and the backward pass. Softmax and sums are taken in at least float32.

Shape suffixes: B batch, L length, D channels, N heads, H head width, K taps (odd).
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convbert.models.ops.reference import same_document


def span_dynamic_conv(
    value_BLNH: Tensor, logits_BLNK: Tensor, document_ids_BL: Tensor | None
) -> Tensor:
    """See ``convolution.span_dynamic_conv``."""
    return _apply_span(value_BLNH, logits_BLNK, document_ids_BL)


def depthwise_conv(x_BLD: Tensor, weight_D1K: Tensor, document_ids_BL: Tensor | None) -> Tensor:
    """See ``convolution.depthwise_conv``."""
    return _apply_depthwise(x_BLD, weight_D1K, document_ids_BL)


class _SpanDynamicConv(torch.autograd.Function):
    """Keeps only its inputs for the backward pass; the softmax over K taps is cheap to repeat."""

    @staticmethod
    def forward(
        ctx: Any, value_BLNH: Tensor, logits_BLNK: Tensor, document_ids_BL: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(value_BLNH, logits_BLNK, document_ids_BL)
        weights_BLNK, inside_BL1K = _kernel(logits_BLNK, document_ids_BL)
        windows = _Shifted(_wide(value_BLNH), logits_BLNK.shape[-1])
        masked_BLNK = _keep(weights_BLNK, inside_BL1K)
        out_BLNH = masked_BLNK[..., 0, None] * windows[0]
        for tap in range(1, windows.taps):
            out_BLNH.addcmul_(masked_BLNK[..., tap, None], windows[tap])
        return out_BLNH.to(value_BLNH.dtype)

    @staticmethod
    def backward(ctx: Any, grad_BLNH: Tensor) -> tuple[Tensor, Tensor, None]:
        value_BLNH, logits_BLNK, document_ids_BL = ctx.saved_tensors
        weights_BLNK, inside_BL1K = _kernel(logits_BLNK, document_ids_BL)
        wide_value_BLNH, taps = _wide(value_BLNH), logits_BLNK.shape[-1]

        # Position t reads t + j - K // 2 through tap j, so s is read through tap K - 1 - j by the
        # position at window j around s. Both gradients take the same windows, of the output's
        # gradient, which spares keeping the value a second time with its margins.
        grads = _Shifted(_wide(grad_BLNH), taps)
        kernels = _Shifted(_keep(weights_BLNK, inside_BL1K), taps)
        grad_value_BLNH = kernels[0][..., taps - 1, None] * grads[0]
        for tap in range(1, taps):
            grad_value_BLNH.addcmul_(kernels[tap][..., taps - 1 - tap, None], grads[tap])

        products = [(grads[tap] * wide_value_BLNH).sum(dim=-1) for tap in reversed(range(taps))]
        grad_weights_BLNK = torch.stack(
            [_Shifted(products[tap], taps)[tap] for tap in range(taps)], dim=-1
        )
        grad_weights_BLNK = _keep(grad_weights_BLNK, inside_BL1K)
        mean_BLN1 = (weights_BLNK * grad_weights_BLNK).sum(dim=-1, keepdim=True)
        grad_logits_BLNK = weights_BLNK * (grad_weights_BLNK - mean_BLN1)
        return grad_value_BLNH.to(value_BLNH.dtype), grad_logits_BLNK.to(logits_BLNK.dtype), None


class _DepthwiseConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_BLD: Tensor, weight_D1K: Tensor, document_ids_BL: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(x_BLD, weight_D1K, document_ids_BL)
        inside_BLK = _inside(document_ids_BL, weight_D1K.shape[-1])
        return _correlate(_wide(x_BLD), _tap_major(weight_D1K), inside_BLK).to(x_BLD.dtype)

    @staticmethod
    def backward(ctx: Any, grad_BLD: Tensor) -> tuple[Tensor, Tensor, None]:
        x_BLD, weight_D1K, document_ids_BL = ctx.saved_tensors
        taps = weight_D1K.shape[-1]
        inside_BLK = _inside(document_ids_BL, taps)
        # "Same document" is symmetric, so the adjoint is the same sum with the filter reversed.
        weight_KD = _tap_major(weight_D1K).flip(0)
        grad_x_BLD = _correlate(_wide(grad_BLD), weight_KD, inside_BLK)
        grads, wide_x_BLD = _Shifted(_wide(grad_BLD), taps), _wide(x_BLD)
        # Two short sums lose less precision than one long one and run in parallel over the batch.
        grad_weight_BDK = torch.stack(
            [
                (_keep_tap(grads[tap], inside_BLK, tap) * wide_x_BLD).sum(dim=1)
                for tap in reversed(range(taps))
            ],
            dim=-1,
        )
        grad_weight_D1K = grad_weight_BDK.sum(dim=0)[:, None]
        return grad_x_BLD.to(x_BLD.dtype), grad_weight_D1K.to(weight_D1K.dtype), None


_apply_span: Callable[..., Tensor] = _SpanDynamicConv.apply
_apply_depthwise: Callable[..., Tensor] = _DepthwiseConv.apply


class _Shifted:
    """The K views of a sequence that shift it by -K//2 .. K//2, zeros moving in at the ends."""

    def __init__(self, x_BLX: Tensor, taps: int) -> None:
        self.taps = taps
        self._length = x_BLX.shape[1]
        trailing = (0, 0) * (x_BLX.dim() - 2)
        self._padded = F.pad(x_BLX, (*trailing, taps // 2, taps // 2))

    def __getitem__(self, tap: int) -> Tensor:
        return self._padded[:, tap : tap + self._length]


def _correlate(x_BLD: Tensor, weight_KD: Tensor, inside_BLK: Tensor | None) -> Tensor:
    windows = _Shifted(x_BLD, weight_KD.shape[0])
    out_BLD = _keep_tap(windows[0], inside_BLK, 0) * weight_KD[0]
    for tap in range(1, windows.taps):
        out_BLD.addcmul_(_keep_tap(windows[tap], inside_BLK, tap), weight_KD[tap])
    return out_BLD


def _tap_major(weight_D1K: Tensor) -> Tensor:
    """Lay the channels of one tap side by side, as the sequence has them: [K, D].

    Stacked rather than transposed: a compiler folds a transposition into the loop that reads it,
    which then gathers K apart for every position.
    """
    return torch.stack(_wide(weight_D1K[:, 0]).unbind(dim=-1))


def _kernel(logits_BLNK: Tensor, document_ids_BL: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return the softmax over taps and, with documents, which taps count [B, L, 1, K]."""
    inside_BLK = _inside(document_ids_BL, logits_BLNK.shape[-1])
    inside_BL1K = None if inside_BLK is None else inside_BLK[:, :, None]
    return _wide(logits_BLNK).softmax(dim=-1), inside_BL1K


def _inside(document_ids_BL: Tensor | None, taps: int) -> Tensor | None:
    return None if document_ids_BL is None else same_document(document_ids_BL, taps)


def _keep(x: Tensor, inside: Tensor | None) -> Tensor:
    return x if inside is None else x * inside


def _keep_tap(x_BLD: Tensor, inside_BLK: Tensor | None, tap: int) -> Tensor:
    return x_BLD if inside_BLK is None else x_BLD * inside_BLK[..., tap, None]


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
