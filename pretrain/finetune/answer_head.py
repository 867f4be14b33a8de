"""Heads that point at the start and the end of an answer.

Shapes: B rows, L positions, D hidden size, K starts that are followed.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convbert.pretrain.finetune.data import LabeledBatch
from convbert.pretrain.finetune.model import output_layer
from convbert.pretrain.finetune.recipe import AnswerConfig

WIDTH = 512
"""Size of the hidden layers that join two vectors, as in ELECTRA's released code."""

_FORBIDDEN = -1000.0


@dataclass(frozen=True)
class SpanScores:
    """The outputs of a head; position 0 ([CLS]) means that the row holds no answer.

    ``start_BL`` are logits; ``starts_BK`` the positions followed and ``end_BKL`` the logits of the
    end behind each. In training K is 1, the right start. ``impossible_B`` is the logit of "no
    answer", or None where the head has no such output.
    """

    start_BL: Tensor
    starts_BK: Tensor
    end_BKL: Tensor
    impossible_B: Tensor | None


def forbidden(batch: LabeledBatch) -> Tensor:
    """Return [B, L], -1000 wherever an answer can neither start nor end, else 0.

    That is everything but [CLS] and the context without its closing [SEP].
    """
    types_BL = batch.token_type_ids_BL
    positions_L = torch.arange(types_BL.shape[1], device=types_BL.device)
    lengths_B = torch.full_like(types_BL[:, 0], types_BL.shape[1])
    if batch.attention_mask_BL is not None:
        lengths_B = batch.attention_mask_BL.sum(1)
    allowed_BL = (types_BL == 1) & (positions_L < lengths_B[:, None] - 1)
    allowed_BL |= positions_L == 0
    return (~allowed_BL).float() * _FORBIDDEN


class SpanHead(nn.Module):
    """What both heads do alike."""

    def __init__(self, config: AnswerConfig) -> None:
        super().__init__()
        self.beam = config.beam

    def followed_starts(self, start_BL: Tensor, batch: LabeledBatch) -> Tensor:
        """Return the starts [B, K] behind which an end is scored: the right one in training."""
        if self.training:
            return batch.labels[:, :1]
        return start_BL.topk(min(self.beam, start_BL.shape[1]), dim=1).indices


class SimpleSpanHead(SpanHead):
    """Two linear outputs for each position, as in BERT (Devlin et al. 2019)."""

    def __init__(self, hidden_size: int, config: AnswerConfig) -> None:
        super().__init__(config)
        self.output = output_layer(hidden_size, 2)

    def forward(self, hidden_BLD: Tensor, batch: LabeledBatch) -> SpanScores:
        """Score starts and ends independently of each other."""
        start_BL, end_BL = (self.output(hidden_BLD) + forbidden(batch)[:, :, None]).unbind(2)
        starts_BK = self.followed_starts(start_BL, batch)
        end_BKL = end_BL[:, None].expand(-1, starts_BK.shape[1], -1)
        return SpanScores(start_BL, starts_BK, end_BKL, None)


class JointScore(nn.Module):
    """A score of two vectors: ``Linear(GELU(Linear 512))`` of their concatenation."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.join = output_layer(2 * hidden_size, WIDTH)
        self.output = output_layer(WIDTH, 1)

    def forward(self, first_XD: Tensor, second_XD: Tensor) -> Tensor:
        """Return the score [X] of vectors of shapes that broadcast.

        The first layer is applied to each vector separately, so that scoring pairs is cheap.
        """
        first, second = self.join.weight.chunk(2, dim=1)
        joined_XW = F.linear(first_XD, first) + F.linear(second_XD, second, self.join.bias)
        scores_X: Tensor = self.output(F.gelu(joined_XW)).squeeze(-1)
        return scores_X


class ElectraSpanHead(SpanHead):
    """The head of ELECTRA's released code, used by ConvBERT too.

    The end is scored from its own state and that of the start: ``Linear(GELU(Linear 512))`` of
    both. Whether there is an answer is read from [CLS] and the mean of the states weighted by
    the start's probability.
    """

    def __init__(self, hidden_size: int, config: AnswerConfig) -> None:
        super().__init__(config)
        self.start = output_layer(hidden_size, 1)
        self.end = JointScore(hidden_size)
        self.impossible = JointScore(hidden_size)

    def forward(self, hidden_BLD: Tensor, batch: LabeledBatch) -> SpanScores:
        """Score starts, then ends behind the right start (training) or the best ones."""
        forbidden_BL = forbidden(batch)
        start_BL = self.start(hidden_BLD).squeeze(2) + forbidden_BL
        starts_BK = self.followed_starts(start_BL, batch)
        rows_B1 = torch.arange(len(hidden_BLD), device=hidden_BLD.device)[:, None]
        chosen_BKD = hidden_BLD[rows_B1, starts_BK]
        end_BKL = self.end(hidden_BLD[:, None], chosen_BKD[:, :, None]) + forbidden_BL[:, None]
        weighted_BD = torch.einsum("bl,bld->bd", start_BL.softmax(1), hidden_BLD)
        impossible_B = self.impossible(hidden_BLD[:, 0], weighted_BD)
        return SpanScores(start_BL, starts_BK, end_BKL, impossible_B)


HEADS: dict[str, type[SimpleSpanHead] | type[ElectraSpanHead]] = {
    "electra": ElectraSpanHead,
    "simple": SimpleSpanHead,
}
