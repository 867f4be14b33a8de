"""The positions that the generator predicts: ELECTRA's dynamic masking, on the device."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from convbert.data_pipeline.loading.batch import Batch
from convbert.pretrain.objective.counter_rng import uniform
from convbert.pretrain.run.schedule import Sampling, final_sampling
from convbert.pretrain.settings.objective import MaskingConfig

_POSITION_STREAM, _KEEP_STREAM, _SAMPLE_STREAM, _COUNT_STREAM = 1, 2, 3, 5


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
    ``temperature`` is that of the samples, a scalar on the device, where it moves during a run.
    """

    input_ids_BL: Tensor
    token_type_ids_BL: Tensor
    document_ids_BL: Tensor
    masked_BL: Tensor
    slots_BM: Tensor
    valid_BM: Tensor
    uniforms_BM: Tensor
    packed: bool
    temperature: Tensor | None = None

    def rows(self, start: int, stop: int) -> "MaskedBatch":
        """Return the rows ``start`` to ``stop`` as a view."""
        return self._each(lambda x: x[start:stop])

    def chosen(self, rows: Tensor) -> "MaskedBatch":
        """Return the rows of these numbers, which the host need not know."""
        return self._each(lambda x: x.index_select(0, rows))

    def _each(self, take: Callable[[Tensor], Tensor]) -> "MaskedBatch":
        tensors: dict[str, Any] = {
            k: take(v) for k, v in vars(self).items() if isinstance(v, Tensor) and v.dim()
        }
        return replace(self, **tensors)


@dataclass(frozen=True)
class SamplingTensors:
    """``Sampling`` as scalars on the device, fp32, where the host does not wait to write them."""

    mask_fraction: Tensor
    temperature: Tensor


def mask_batch(
    config: MaskingConfig,
    special: SpecialIds,
    seed: int,
    batch: Batch,
    sampling: Sampling | SamplingTensors | None = None,
) -> MaskedBatch:
    """Select ``max(1, min(M, round(p * real tokens)))`` positions of every row.

    ``sampling`` holds the p and the temperature of an update; left out, they are those at the end
    of a run. Where p moves during a run, a row's share is rounded up or down by chance, so that p
    is met on the average: rounded to the nearest it would fall in steps of a token a row.

    The count includes [CLS] and [SEP], the choice excludes them, as in ELECTRA's released code.
    Positions are drawn without replacement: the original draws with replacement, so 7 % of its
    positions come up twice and receive the integer mean of two sampled ids. A selected position
    becomes [MASK] with probability ``mask_token_fraction`` and else keeps its token; no random
    token is written.
    """
    input_ids_BL, positions_B = batch.input_ids, batch.positions
    length = input_ids_BL.shape[1]
    count = config.slots(length)
    real_BL = batch.document_ids > 0
    special_BL = (
        (input_ids_BL == special.cls)
        | (input_ids_BL == special.sep)
        | (input_ids_BL == special.mask)
    )
    key_BL = uniform(seed, _POSITION_STREAM, positions_B, length)
    key_BL = key_BL.masked_fill(~real_BL | special_BL, 2.0)
    keys_BM, slots_BM = key_BL.topk(count, dim=1, largest=False)
    wanted_B = _wanted(config, seed, sampling, positions_B, real_BL.sum(1)).clamp(1, count)
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
        temperature=_temperature(config, sampling, input_ids_BL.device),
    )


def _wanted(
    config: MaskingConfig,
    seed: int,
    sampling: Sampling | SamplingTensors | None,
    positions_B: Tensor,
    real_B: Tensor,
) -> Tensor:
    """Return how many tokens of each row are to be selected."""
    if sampling is None or config.schedule is None:
        return (final_sampling(config).mask_fraction * real_B).round()
    chance_B = uniform(seed, _COUNT_STREAM, positions_B, 1)[:, 0]
    return (sampling.mask_fraction * real_B + chance_B).floor()


def _temperature(
    config: MaskingConfig, sampling: Sampling | SamplingTensors | None, device: torch.device
) -> Tensor | None:
    """Return a temperature that moves; as a number it would be compiled into the networks."""
    if config.temperature_schedule is None:
        return None
    if isinstance(sampling, SamplingTensors):
        return sampling.temperature
    return torch.full((), (sampling or final_sampling(config)).temperature, device=device)
