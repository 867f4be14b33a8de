"""Readable definitions of the local operators; the other backends are tested against them.

Shape suffixes: B batch, L length, D channels, N heads, H head width, K taps (odd).
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def span_dynamic_conv(
    value_BLNH: Tensor, logits_BLNK: Tensor, document_ids_BL: Tensor | None
) -> Tensor:
    """Weighted sum of K neighbors with weights softmax(logits), as in ConvBERT section 3.2."""
    wide = torch.promote_types(value_BLNH.dtype, torch.float32)
    taps = logits_BLNK.shape[-1]
    weights_BLNK = logits_BLNK.to(wide).softmax(dim=-1)
    if document_ids_BL is not None:
        weights_BLNK = weights_BLNK * same_document(document_ids_BL, taps)[:, :, None, :]
    windows_BLNHK = _windows(value_BLNH.to(wide), taps)
    out_BLNH = torch.einsum("blnhk,blnk->blnh", windows_BLNHK, weights_BLNK)
    return out_BLNH.to(value_BLNH.dtype)


def depthwise_conv(x_BLD: Tensor, weight_D1K: Tensor, document_ids_BL: Tensor | None) -> Tensor:
    """One filter of K taps per channel, cross-correlated along the sequence."""
    wide = torch.promote_types(x_BLD.dtype, torch.float32)
    taps = weight_D1K.shape[-1]
    windows_BLDK = _windows(x_BLD.to(wide), taps)
    if document_ids_BL is not None:
        windows_BLDK = windows_BLDK * same_document(document_ids_BL, taps)[:, :, None, :]
    out_BLD = torch.einsum("bldk,dk->bld", windows_BLDK, weight_D1K[:, 0].to(wide))
    return out_BLD.to(x_BLD.dtype)


def same_document(document_ids_BL: Tensor, taps: int) -> Tensor:
    """Tell for each position which of its taps lie in its own document.

    Padding (id 0) belongs to no document, so it neither gives nor receives anything.
    Returns a bool tensor [B, L, K].
    """
    windows_BLK = _windows(document_ids_BL, taps)
    return (windows_BLK == document_ids_BL[:, :, None]) & (document_ids_BL[:, :, None] != 0)


def _windows(x_BLX: Tensor, taps: int) -> Tensor:
    """View the K neighbors of each position as a last axis, zeros outside the row."""
    half = taps // 2
    trailing = x_BLX.dim() - 2
    padded = F.pad(x_BLX, (0, 0) * trailing + (half, half))
    return padded.unfold(1, taps, 1)
