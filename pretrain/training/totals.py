"""What the processes of a run add up: the tokens that losses are averaged over, and the losses."""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from convbert.pretrain.objective.losses import STATISTICS, Normalizers, summarize
from convbert.pretrain.objective.masking import MaskedBatch
from convbert.pretrain.run import metric_names
from convbert.pretrain.run.division import BatchDivision
from convbert.pretrain.settings.objective import ObjectiveConfig


@dataclass(frozen=True)
class Totals:
    """One update's numbers, equal on all processes: sums are over the global batch.

    ``loss`` is the total loss per slot and token, ``norm`` the gradient's before clipping.
    ``stop`` and ``failed`` say that any process was asked to stop or failed to write a checkpoint.
    """

    sums: dict[str, float]
    loss: float
    norm: float
    stop: bool
    failed: bool


def normalizers(masked: MaskedBatch, division: BatchDivision) -> Normalizers:
    """Count slots and tokens over the global batch, scaled for DeepSpeed's averaging.

    DeepSpeed divides by the accumulation steps and averages over the processes; multiplying the
    loss by both leaves a plain sum over the global batch.
    """
    counts = torch.stack([masked.valid_BM.sum(), (masked.document_ids_BL > 0).sum()]).float()
    dist.all_reduce(counts)
    counts = counts / (division.world * division.accumulation)
    return Normalizers(slots=counts[0], tokens=counts[1])


def sum_over_processes(
    sums: Tensor, norm: float | Tensor, weights: ObjectiveConfig, *, stop: bool, failed: bool
) -> Totals:
    """Add up the statistics and flags of all processes.

    This is the one place of an update where this package makes the host wait for the device. It
    lies before the optimizer, whose work then runs while the host prepares the next batch.
    """
    flags = torch.tensor([float(stop), float(failed)], device=sums.device)
    everything = torch.cat([sums, flags])
    dist.all_reduce(everything)
    own_norm = torch.as_tensor(norm, device=sums.device).float().view(1)
    *counts, stops, failures, total_norm = torch.cat([everything, own_norm]).tolist()
    return _totals(counts, total_norm, weights, stop=stops > 0, failed=failures > 0)


def read_report(
    report: Tensor, weights: ObjectiveConfig, *, stop: bool, failed: bool
) -> tuple[Totals, bool]:
    """Wait for a ``DeviceUpdate``; return its numbers and whether it was applied."""
    *counts, norm, applied = report.tolist()
    return _totals(counts, norm, weights, stop=stop, failed=failed), applied > 0


def _totals(
    counts: list[float], norm: float, weights: ObjectiveConfig, *, stop: bool, failed: bool
) -> Totals:
    named = dict(zip(STATISTICS, counts, strict=True))
    values = summarize(named)
    loss = weights.generator_weight * values[metric_names.LOSS_MLM]
    loss += weights.discriminator_weight * values.get(metric_names.LOSS_RTD, 0.0)
    return Totals(named, loss, norm, stop=stop, failed=failed)
