"""The positions that the generator predicts: ELECTRA's dynamic masking, on the device."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from convbert.data_pipeline.loading.batch import Batch
from convbert.pretrain.objective.counter_rng import uniform
from convbert.pretrain.settings.objective import MaskingConfig

_POSITION_STREAM, _KEEP_STREAM, _SAMPLE_STREAM = 1, 2, 3


@dataclass(frozen=True)
class SpecialIds:
    """Ids of the tokens that are never selected, and of the one that masking writes."""

    pad: int
    cls: int
    sep: int
    mask: int


@dataclass(frozen=True)
class MaskedBatch:
    """Sequences with their selected positions; M slots per row, some of them unused.

    ``slots_BM`` holds positions in the row and ``valid_BM`` which slots count. The generator reads
    ``masked_BL``; ``uniforms_BM``, numbers in [0, 1), decide the sampled tokens.
    ``document_ids_BL`` is 0 at padding. A ``packed`` row may hold several documents.
    """

    input_ids_BL: Tensor
    token_type_ids_BL: Tensor
    document_ids_BL: Tensor
    masked_BL: Tensor
    slots_BM: Tensor
    valid_BM: Tensor
    uniforms_BM: Tensor
    packed: bool

    def rows(self, start: int, stop: int) -> "MaskedBatch":
        """Return the rows ``start`` to ``stop`` as a view."""
        tensors: dict[str, Any] = {
            k: v[start:stop] for k, v in vars(self).items() if isinstance(v, Tensor)
        }
        return replace(self, **tensors)


def slot_count(mask_fraction: float, length: int) -> int:
    """Return the slots per row of ``length`` tokens: ``int((p + 0.005) L)``, 19 at (0.15, 128)."""
    return max(1, int((mask_fraction + 0.005) * length))


def mask_batch(config: MaskingConfig, special: SpecialIds, seed: int, batch: Batch) -> MaskedBatch:
    """Select ``max(1, min(M, round(p * real tokens)))`` positions of every row.

    The count includes [CLS] and [SEP], the choice excludes them, as in ELECTRA's released code.
    Positions are drawn without replacement: the original draws with replacement, so 7 % of its
    positions come up twice and receive the integer mean of two sampled ids. A selected position
    becomes [MASK] with probability ``mask_token_fraction`` and else keeps its token; no random
    token is written.
    """
    input_ids_BL, positions_B = batch.input_ids, batch.positions
    length = input_ids_BL.shape[1]
    count = slot_count(config.mask_fraction, length)
    real_BL = batch.document_ids > 0
    special_BL = (
        (input_ids_BL == special.cls)
        | (input_ids_BL == special.sep)
        | (input_ids_BL == special.mask)
    )
    key_BL = uniform(seed, _POSITION_STREAM, positions_B, length)
    key_BL = key_BL.masked_fill(~real_BL | special_BL, 2.0)
    keys_BM, slots_BM = key_BL.topk(count, dim=1, largest=False)
    wanted_B = (config.mask_fraction * real_BL.sum(1)).round().clamp(1, count)
    rank_M = torch.arange(count, device=input_ids_BL.device)
    valid_BM = (rank_M < wanted_B[:, None]) & (keys_BM < 1.0)

    shown_BM = uniform(seed, _KEEP_STREAM, positions_B, count) >= config.mask_token_fraction
    original_BM = input_ids_BL.gather(1, slots_BM)
    written_BM = torch.where(shown_BM | ~valid_BM, original_BM, special.mask)
    return MaskedBatch(
        input_ids_BL=input_ids_BL,
        token_type_ids_BL=batch.token_type_ids,
        document_ids_BL=batch.document_ids,
        masked_BL=input_ids_BL.scatter(1, slots_BM, written_BM),
        slots_BM=slots_BM,
        valid_BM=valid_BM,
        uniforms_BM=uniform(seed, _SAMPLE_STREAM, positions_B, count),
        packed=batch.packed,
    )
