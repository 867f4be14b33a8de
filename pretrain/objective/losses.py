"""Pretraining objectives: replaced-token detection (ELECTRA) and plain masked language modeling.

An objective is the module that DeepSpeed trains: it maps one masked micro-batch to a loss and a
vector of sums. Losses are normalized by counts over the *global* batch, so neither the loss nor its
gradient depends on how the batch is split over processes and micro-batches.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convbert.models.ops.masked_lm import masked_lm
from convbert.models.pretraining import MaskedLanguageModel, PretrainingModel, ReplacedTokenModel
from convbert.pretrain.objective.masking import MaskedBatch
from convbert.pretrain.run import metric_names
from convbert.pretrain.settings.objective import ObjectiveConfig

STATISTICS = (
    "mlm_loss",
    "mlm_correct",
    "mlm_slots",
    "rtd_loss",
    "rtd_tokens",
    "replaced",
    "true_positives",
    "predicted_positives",
)


@dataclass(frozen=True)
class Normalizers:
    """Counts over the global batch, 0-d tensors on the device, which the host never reads."""

    slots: Tensor
    tokens: Tensor


def _gather_slots(hidden_BLD: Tensor, slots_BM: Tensor) -> Tensor:
    """Return the hidden states of the selected positions, [B*M, D]."""
    rows_B1 = torch.arange(slots_BM.shape[0], device=slots_BM.device)[:, None]
    return hidden_BLD[rows_B1, slots_BM].flatten(0, 1)


class Objective(nn.Module, ABC):
    """A model with its training loss; both objectives predict masked tokens in the same way."""

    def __init__(self, config: ObjectiveConfig) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def forward(self, batch: MaskedBatch, normalizers: Normalizers) -> tuple[Tensor, Tensor]:
        """Return the loss (scalar, fp32) and the detached sums named in ``STATISTICS``."""

    def _inputs(self, batch: MaskedBatch) -> dict[str, Tensor]:
        if batch.packed:
            return {"document_ids": batch.document_ids_BL}
        return {
            "token_type_ids": batch.token_type_ids_BL,
            "attention_mask": batch.document_ids_BL > 0,
        }

    def _masked_lm(
        self, encoder: nn.Module, head: Any, batch: MaskedBatch
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the summed loss, the sampled ids [B, M] and the number of correct argmaxes."""
        hidden_BLD = encoder(batch.masked_BL, **self._inputs(batch))
        hidden_XE = head.transform(_gather_slots(hidden_BLD, batch.slots_BM))
        targets_X = batch.input_ids_BL.gather(1, batch.slots_BM).flatten()
        loss_X, sampled_X, correct_X = masked_lm(
            hidden_XE,
            head.vocabulary,
            head.bias,
            targets_X,
            batch.uniforms_BM.flatten(),
            self.config.masking.temperature if batch.temperature is None else batch.temperature,
        )
        valid_X = batch.valid_BM.flatten()
        loss = torch.where(valid_X, loss_X, 0.0).sum()
        return loss, sampled_X.view_as(batch.slots_BM), (correct_X & valid_X).sum()


class ReplacedTokenDetection(Objective):
    """Generator and discriminator trained together (Clark et al. 2020, section 2).

    The discriminator reads the row with the generator's samples in it and predicts for every real
    token whether it was replaced; a sample equal to the original counts as original. No gradient
    flows through the sampling.
    """

    def __init__(self, model: ReplacedTokenModel, config: ObjectiveConfig) -> None:
        super().__init__(config)
        self.model = model

    def forward(self, batch: MaskedBatch, normalizers: Normalizers) -> tuple[Tensor, Tensor]:
        """Return the loss (scalar, fp32) and the detached sums named in ``STATISTICS``."""
        model = self.model
        mlm_sum, sampled_BM, correct = self._masked_lm(model.generator, model.generator_head, batch)
        original_BM = batch.input_ids_BL.gather(1, batch.slots_BM)
        written_BM = torch.where(batch.valid_BM, sampled_BM, original_BM)
        corrupted_BL = batch.input_ids_BL.scatter(1, batch.slots_BM, written_BM)
        replaced_BL = corrupted_BL != batch.input_ids_BL
        real_BL = batch.document_ids_BL > 0

        hidden_BLD = model.discriminator(corrupted_BL, **self._inputs(batch))
        logits_BL = model.discriminator_head(hidden_BLD).float()
        loss_BL = F.binary_cross_entropy_with_logits(
            logits_BL, replaced_BL.float(), reduction="none"
        )
        rtd_sum = torch.where(real_BL, loss_BL, 0.0).sum()
        positive_BL = (logits_BL > 0) & real_BL
        loss = (
            self.config.generator_weight * mlm_sum / normalizers.slots
            + self.config.discriminator_weight * rtd_sum / normalizers.tokens
        )
        sums = (
            mlm_sum,
            correct,
            batch.valid_BM.sum(),
            rtd_sum,
            real_BL.sum(),
            replaced_BL.sum(),
            (positive_BL & replaced_BL).sum(),
            positive_BL.sum(),
        )
        return loss, torch.stack([s.detach().float() for s in sums])


class MaskedLanguageModeling(Objective):
    """BERT's objective without next-sentence prediction, on the same masking."""

    def __init__(self, model: MaskedLanguageModel, config: ObjectiveConfig) -> None:
        super().__init__(config)
        self.model = model

    def forward(self, batch: MaskedBatch, normalizers: Normalizers) -> tuple[Tensor, Tensor]:
        """Return the loss (scalar, fp32) and the detached sums; those of the detector are 0."""
        mlm_sum, _, correct = self._masked_lm(self.model.encoder, self.model.head, batch)
        zero = torch.zeros_like(mlm_sum)
        tokens = (batch.document_ids_BL > 0).sum()
        sums = (mlm_sum, correct, batch.valid_BM.sum(), zero, tokens, zero, zero, zero)
        return mlm_sum / normalizers.slots, torch.stack([s.detach().float() for s in sums])


def build_objective(model: PretrainingModel, config: ObjectiveConfig) -> Objective:
    """Return the objective that ``model`` is made for, with the model in it."""
    if isinstance(model, ReplacedTokenModel):
        return ReplacedTokenDetection(model, config)
    return MaskedLanguageModeling(model, config)


def summarize(sums: dict[str, float]) -> dict[str, float]:
    """Return the metrics that follow from sums over the global batch.

    Replaced tokens are only about 6 % of all, so the discriminator is measured by its precision
    and recall on them. The generator's sampled rate is the share of its slots whose sample is
    another token: at 0 the discriminator learns nothing.
    """

    def rate(count: str, of: str) -> float:
        return sums[count] / max(1.0, sums[of])

    metrics = {
        metric_names.LOSS_MLM: rate("mlm_loss", "mlm_slots"),
        metric_names.GENERATOR_ACCURACY: rate("mlm_correct", "mlm_slots"),
    }
    if sums["rtd_loss"]:
        metrics |= {
            metric_names.LOSS_RTD: rate("rtd_loss", "rtd_tokens"),
            metric_names.GENERATOR_SAMPLED_RATE: rate("replaced", "mlm_slots"),
            metric_names.DISCRIMINATOR_REPLACED_RATE: rate("replaced", "rtd_tokens"),
            metric_names.DISCRIMINATOR_PRECISION: rate("true_positives", "predicted_positives"),
            metric_names.DISCRIMINATOR_RECALL: rate("true_positives", "replaced"),
        }
    return metrics
