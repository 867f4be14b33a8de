"""The encoder: embeddings and a stack of mixed-attention and feed-forward blocks.

Shapes: B rows, L positions, D hidden size.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from convbert.models.architecture import EncoderConfig
from convbert.models.attention import MixedAttention
from convbert.models.embeddings import Embeddings
from convbert.models.errors import UserError
from convbert.models.feedforward import FeedForward
from convbert.models.init import initialize
from convbert.models.masking import document_bias, padding_bias
from convbert.models.ops.attention import reads_documents


class EncoderLayer(nn.Module):
    """One mixed-attention block and one feed-forward block, both normalized after the sum."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.attention = MixedAttention(config)
        self.feedforward = FeedForward(config)

    def forward(
        self,
        hidden_BLD: Tensor,
        attention_bias: Tensor | None = None,
        document_ids_BL: Tensor | None = None,
    ) -> Tensor:
        """Return [B, L, D]; the arguments are those of ``MixedAttention``."""
        return self.feedforward(self.attention(hidden_BLD, attention_bias, document_ids_BL))


def call_layer(
    layer: nn.Module, hidden: Tensor, bias: Tensor | None, documents: Tensor | None
) -> Tensor:
    """Return ``layer(hidden, bias, documents)``: compiled once, it serves all that are alike."""
    out: Tensor = layer(hidden, bias, documents)
    return out


class Encoder(nn.Module):
    """ConvBERT's encoder (Jiang et al. 2020), or ELECTRA's and BERT's with ``local_op=attention``.

    ``embeddings`` shares another encoder's embedding block; it is then left as it is and only the
    parameters that belong to this encoder are initialized. Setting ``gradient_checkpointing``
    recomputes each layer in the backward pass instead of keeping its activations. ``call_layer``
    is how a layer is called in training (``compiling.py`` sets it).
    """

    call_layer: Callable[[nn.Module, Tensor, Tensor | None, Tensor | None], Tensor]

    def __init__(self, config: EncoderConfig, embeddings: Embeddings | None = None) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        self.call_layer = call_layer
        self.project: nn.Module = nn.Identity()
        if config.embedding_size != config.hidden_size:
            self.project = nn.Linear(config.embedding_size, config.hidden_size)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_layers))
        initialize(self, config)
        self.embeddings = self._own_embeddings() if embeddings is None else embeddings
        if self.embeddings.word.embedding_dim != config.embedding_size:
            raise UserError(
                f"embedding_size={config.embedding_size} does not fit the shared embeddings: "
                f"use {self.embeddings.word.embedding_dim}"
            )

    def _own_embeddings(self) -> Embeddings:
        embeddings = Embeddings(self.config)
        initialize(embeddings, self.config)
        return embeddings

    def forward(
        self,
        input_ids: Tensor,
        *,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> Tensor:
        """Return the last hidden states [B, L, D] of the ids [B, L].

        ``attention_mask`` is 1 at real tokens. ``document_ids`` (0 at padding, documents from 1)
        keeps attention inside a document and restarts positions at each. With neither there is
        no padding anywhere. Hidden states at padding are finite but mean nothing.
        """
        if document_ids is not None and attention_mask is not None:
            document_ids = document_ids * (attention_mask != 0)
        hidden: Tensor = self.project(self.embeddings(input_ids, token_type_ids, document_ids))
        bias = None
        if not reads_documents(hidden, self.config.head_dim):
            bias = self._bias(attention_mask, document_ids, hidden.dtype)
        if document_ids is None and attention_mask is not None:
            document_ids = (attention_mask != 0).long()
        call = self.call_layer if self.training else call_layer
        recomputes = self.gradient_checkpointing and self.training
        for layer in self.layers:
            if recomputes:
                hidden = checkpoint(call, layer, hidden, bias, document_ids, use_reentrant=False)
            else:
                hidden = call(layer, hidden, bias, document_ids)
        return hidden

    def _bias(
        self, attention_mask: Tensor | None, document_ids: Tensor | None, dtype: torch.dtype
    ) -> Tensor | None:
        if document_ids is not None:
            return document_bias(document_ids, dtype)
        return None if attention_mask is None else padding_bias(attention_mask, dtype)
