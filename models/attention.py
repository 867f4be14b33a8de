"""The mixed-attention block, one class for ConvBERT, its ablations and its baselines.

Shapes: B rows, L positions, D hidden size, N heads, H head width, C = N * H bottleneck width.
"""

import torch
from torch import Tensor, nn

from convbert.models.architecture import EncoderConfig
from convbert.models.local import LOCAL_OPERATORS
from convbert.models.masking import document_bias
from convbert.models.ops.attention import attention, document_attention, reads_documents
from convbert.models.ops.dropout import Dropout


class MixedAttention(nn.Module):
    """Self-attention on N heads beside a local operator, projected back, added and normalized.

    ConvBERT (Jiang et al. 2020), section 3.3. Query, key and value, and the local operator's own
    value where it has one, come out of one matrix product. The attention heads are concatenated
    first, the local heads second. With ``local_op`` none or attention there is no second half.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        operator = LOCAL_OPERATORS.get(config.local_op)
        self.local = None if operator is None else operator(config)
        self.projections = 4 if operator is not None and operator.has_own_value else 3
        self.head_dim = config.head_dim
        self.confines_local = config.mask_conv_padding
        self.attention_dropout = config.attention_dropout
        self.in_proj = nn.Linear(config.hidden_size, self.projections * config.bottleneck)
        self.out_proj = nn.Linear(config.concat_width, config.hidden_size)
        self.dropout = Dropout(config.hidden_dropout)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self,
        hidden_BLD: Tensor,
        attention_bias: Tensor | None = None,
        document_ids_BL: Tensor | None = None,
    ) -> Tensor:
        """Return [B, L, D].

        ``document_ids_BL`` (0 at padding) confines the local operator, if the configuration says
        so, and attention; None lets both see the whole row. ``attention_bias``, added to the scores
        and broadcast to [B, N, L, L], is what attention takes instead, worked out once for all
        layers.
        """
        projected = self.in_proj(hidden_BLD).chunk(self.projections, dim=-1)
        query_BLC, key_BLC, value_BLC = projected[:3]
        heads = self._attend(query_BLC, key_BLC, value_BLC, attention_bias, document_ids_BL)
        if self.local is not None:
            confined_to = document_ids_BL if self.confines_local else None
            local = self.local(hidden_BLD, query_BLC, projected[-1], confined_to)
            heads = torch.cat([heads, local], dim=-1)
        return self.norm(hidden_BLD + self.dropout(self.out_proj(heads)))

    def weights(
        self,
        hidden_BLD: Tensor,
        attention_bias: Tensor | None = None,
        document_ids_BL: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return what ``forward`` weighs values with, to look at: attention and local kernels.

        They are [B, N, L, L], rows the positions that look, and [B, L, N, K], whose tap j stands
        for the position j - (K - 1) / 2 further on; None for an operator without such kernels. The
        arguments are those of ``forward``; without dropout.
        """
        query_BLC, key_BLC = self.in_proj(hidden_BLD).chunk(self.projections, dim=-1)[:2]
        query_BNLH, key_BNLH = self._heads(query_BLC), self._heads(key_BLC)
        scores_BNLL = query_BNLH @ key_BNLH.transpose(-1, -2) / self.head_dim**0.5
        if attention_bias is None and document_ids_BL is not None:
            attention_bias = document_bias(document_ids_BL, scores_BNLL.dtype)
        if attention_bias is not None:
            scores_BNLL = scores_BNLL + attention_bias
        kernels = None
        if self.local is not None:
            confined_to = document_ids_BL if self.confines_local else None
            kernels = self.local.kernels(hidden_BLD, query_BLC, confined_to)
        return scores_BNLL.softmax(-1), kernels

    def _heads(self, part_BLC: Tensor) -> Tensor:
        batch, length, _ = part_BLC.shape
        return part_BLC.view(batch, length, -1, self.head_dim).transpose(1, 2)

    def _attend(
        self,
        query_BLC: Tensor,
        key_BLC: Tensor,
        value_BLC: Tensor,
        bias: Tensor | None,
        document_ids_BL: Tensor | None,
    ) -> Tensor:
        dropout = self.attention_dropout if self.training else 0.0
        if bias is None and document_ids_BL is not None:
            if reads_documents(query_BLC, self.head_dim):
                query, key, value = (
                    part.unflatten(-1, (-1, self.head_dim))
                    for part in (query_BLC, key_BLC, value_BLC)
                )
                return document_attention(query, key, value, document_ids_BL, dropout).flatten(-2)
            bias = document_bias(document_ids_BL, query_BLC.dtype)
        query, key, value = (self._heads(part) for part in (query_BLC, key_BLC, value_BLC))
        return attention(query, key, value, bias, dropout).transpose(1, 2).flatten(-2)
