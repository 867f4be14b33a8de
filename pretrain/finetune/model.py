"""The networks that are fine-tuned: an encoder and one small head.

Shapes: B rows, L positions, D hidden size, C outputs.
"""

from typing import Any

import torch
from torch import Tensor, nn

from convbert.models.encoder import Encoder
from convbert.pretrain.finetune.data import LabeledBatch
from convbert.pretrain.finetune.recipe import FinetuneConfig


def pool_first(hidden_BLD: Tensor, mask_BL: Tensor | None) -> Tensor:
    """Return the state of [CLS], [B, D]."""
    return hidden_BLD[:, 0]


def pool_mean(hidden_BLD: Tensor, mask_BL: Tensor | None) -> Tensor:
    """Return the mean over the real tokens, [B, D]; all are real without a mask."""
    if mask_BL is None:
        return hidden_BLD.mean(1)
    mask_BL1 = mask_BL[:, :, None].to(hidden_BLD.dtype)
    return (hidden_BLD * mask_BL1).sum(1) / mask_BL1.sum(1)


POOLS = {"cls": pool_first, "mean": pool_mean}


def output_layer(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear layer as heads are initialized: truncated normal of 0.02, biases 0."""
    layer = nn.Linear(inputs, outputs)
    nn.init.trunc_normal_(layer.weight, std=0.02, a=-0.04, b=0.04)
    nn.init.zeros_(layer.bias)
    return layer


class SentenceHead(nn.Module):
    """Scores of a row, [B, C], from one pooled vector behind dropout.

    ``linear`` on the [CLS] vector is the head of the authors' code. ``mlp`` is that of
    transformers' ConvBERT classifier: another layer of width D with GELU and dropout between.
    """

    def __init__(self, hidden_size: int, num_outputs: int, recipe: FinetuneConfig) -> None:
        super().__init__()
        self.pool = POOLS[recipe.pooling]
        self.dropout = nn.Dropout(recipe.dropout)
        self.dense = output_layer(hidden_size, hidden_size) if recipe.head == "mlp" else None
        self.output = output_layer(hidden_size, num_outputs)

    def forward(self, hidden_BLD: Tensor, batch: LabeledBatch) -> Tensor:
        """Return the scores [B, C]."""
        vector_BD = self.dropout(self.pool(hidden_BLD, batch.attention_mask_BL))
        if self.dense is not None:
            vector_BD = self.dropout(nn.functional.gelu(self.dense(vector_BD)))
        scores_BC: Tensor = self.output(vector_BD)
        return scores_BC


class TokenHead(nn.Module):
    """Scores of every position, [B, L, C]: one linear layer behind dropout."""

    def __init__(self, hidden_size: int, num_outputs: int, recipe: FinetuneConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(recipe.dropout)
        self.output = output_layer(hidden_size, num_outputs)

    def forward(self, hidden_BLD: Tensor, batch: LabeledBatch) -> Tensor:
        """Return the scores [B, L, C]."""
        scores_BLC: Tensor = self.output(self.dropout(hidden_BLD))
        return scores_BLC


class TaskModel(nn.Module):
    """An encoder with a head that reads its last hidden states."""

    def __init__(self, encoder: Encoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    @property
    def device(self) -> torch.device:
        """The device that holds the parameters."""
        return self.encoder.embeddings.word.weight.device

    def forward(self, batch: LabeledBatch) -> Any:
        """Return the head's outputs for a batch."""
        hidden_BLD = self.encoder(
            batch.input_ids_BL,
            token_type_ids=batch.token_type_ids_BL,
            attention_mask=batch.attention_mask_BL,
        )
        return self.head(hidden_BLD, batch)
