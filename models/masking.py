"""Where a row's documents begin and end, as the layers need to know it.

Shapes: B rows, L positions. Document ids are 0 at padding and count documents from 1.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

# BERT's additive penalty: exp(-10000) is exactly zero in every precision, and unlike minus
# infinity it leaves a row of nothing but padding finite.
_PENALTY = -10000.0


def padding_bias(attention_mask_BL: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the additive attention bias [B, 1, 1, L] that hides padding from every query."""
    hidden = attention_mask_BL == 0
    return (hidden.to(dtype) * _PENALTY)[:, None, None, :]


def document_bias(document_ids_BL: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the additive attention bias [B, 1, L, L] that keeps attention inside a document.

    Padding sees every document of its row, as it does under a plain attention mask, so one
    document per row gives the same hidden states by either route.
    """
    query_BL1, key_B1L = document_ids_BL[:, :, None], document_ids_BL[:, None, :]
    visible = (key_B1L != 0) & ((query_BL1 == key_B1L) | (query_BL1 == 0))
    return ((~visible).to(dtype) * _PENALTY)[:, None]


def restarting_positions(document_ids_BL: Tensor) -> Tensor:
    """Return each token's position within its document, [B, L] int64.

    Padding counts on from the document before it, as it does in a row of one document.
    """
    length = document_ids_BL.shape[1]
    index_L = torch.arange(length, device=document_ids_BL.device)
    before_BL = F.pad(document_ids_BL[:, :-1], (1, 0))
    begins_BL = (document_ids_BL != before_BL) & (document_ids_BL != 0)
    start_BL = torch.cummax(index_L * begins_BL, dim=1).values
    return index_L - start_BL
