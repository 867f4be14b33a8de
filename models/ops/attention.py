"""Attention, with an additive bias or by the ids of documents.

Shape suffixes: B batch, L length, N heads, H head width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from convbert.models.ops import triton_attention
from convbert.models.ops.convolution import selected_backend
from convbert.models.ops.dropout import dropout

_WIDEST = 128  # of heads whose blocks fit into the shared memory of any GPU


def attention(
    query_BNLH: Tensor,
    key_BNLH: Tensor,
    value_BNLH: Tensor,
    bias: Tensor | None,
    dropout_p: float,
) -> Tensor:
    """Return softmax(query @ key.T / sqrt(H) + bias), dropped out, times value.

    PyTorch's fused kernels do it on GPUs. On CPUs they cannot drop out, and in less than float32
    two plain products are 2 to 4 times faster (``docs/benchmarks/cpu.md``). ``bias`` broadcasts to
    [B, N, L, L].
    """
    plain = dropout_p > 0.0 or query_BNLH.dtype in (torch.bfloat16, torch.float16)
    if query_BNLH.is_cuda or not plain:
        return F.scaled_dot_product_attention(
            query_BNLH, key_BNLH, value_BNLH, attn_mask=bias, dropout_p=dropout_p
        )
    scaled_BNLH = query_BNLH * query_BNLH.shape[-1] ** -0.5
    scores_BNLL = scaled_BNLH @ key_BNLH.transpose(-1, -2)
    if bias is not None:
        scores_BNLL = scores_BNLL + bias
    return dropout(scores_BNLL.softmax(dim=-1), dropout_p) @ value_BNLH


def reads_documents(like: Tensor, head_dim: int) -> bool:
    """Return whether ``document_attention`` is there for heads of this width and such a tensor.

    It is where the Triton kernels run, in half precision: float32 has no tensor cores to gain by.
    """
    half = like.dtype in (torch.bfloat16, torch.float16)
    return half and head_dim <= _WIDEST and selected_backend("auto", like.device.type) == "triton"


def document_attention(
    query_BLNH: Tensor,
    key_BLNH: Tensor,
    value_BLNH: Tensor,
    document_ids_BL: Tensor,
    dropout_p: float,
) -> Tensor:
    """Return [B, L, N, H]: ``attention`` inside documents, without a bias of [B, L, L].

    What a position sees is said by ``masking.document_bias``; a row of nothing but padding mixes
    nothing. Blocks of keys that a block of queries has no document in are left out. The mask of
    dropout is hashed (``dropout.py``), not kept. Raises ``UserError`` where Triton cannot run.
    """
    return triton_attention.attention(query_BLNH, key_BLNH, value_BLNH, document_ids_BL, dropout_p)
