"""The networks that are fine-tuned: an encoder and one small head.

Shapes: B rows, L positions, D hidden size, C outputs.
"""

import torch
from torch import Tensor, nn

from convbert.models.encoder import Encoder
from convbert.pretrain.finetune.data import LabelledBatch


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


class SequenceClassifier(nn.Module):
    """One linear layer on a pooled vector, behind dropout.

    On the [CLS] vector that is the head of the authors' code; transformers' ConvBERT classifier
    adds a hidden layer. With one output it is a regressor.
    """

    def __init__(
        self, encoder: Encoder, num_outputs: int, dropout: float, pooling: str = "cls"
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.pool = POOLS[pooling]
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(encoder.config.hidden_size, num_outputs)
        nn.init.trunc_normal_(self.head.weight, std=0.02, a=-0.04, b=0.04)
        nn.init.zeros_(self.head.bias)

    def forward(self, batch: LabelledBatch) -> Tensor:
        """Return the scores [B, C]."""
        hidden_BLD = self.encoder(
            batch.input_ids_BL,
            token_type_ids=batch.token_type_ids_BL,
            attention_mask=batch.attention_mask_BL,
        )
        pooled_BD = self.pool(hidden_BLD, batch.attention_mask_BL)
        scores_BC: Tensor = self.head(self.dropout(pooled_BD))
        return scores_BC


def classification_loss(scores_BC: Tensor, labels_B: Tensor) -> Tensor:
    """Mean cross-entropy against class indices."""
    return nn.functional.cross_entropy(scores_BC, labels_B.long())


def regression_loss(scores_BC: Tensor, labels_B: Tensor) -> Tensor:
    """Mean squared error against scaled targets."""
    return nn.functional.mse_loss(scores_BC.squeeze(1), labels_B)


def classify(scores_BC: Tensor) -> Tensor:
    """Return the index of the best class [B]."""
    return torch.argmax(scores_BC, dim=1)


def regress(scores_BC: Tensor) -> Tensor:
    """Return the scaled prediction [B]."""
    return scores_BC.squeeze(1)


LOSSES = {"classification": classification_loss, "regression": regression_loss}
PREDICTIONS = {"classification": classify, "regression": regress}
