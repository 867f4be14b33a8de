"""A whole update as work of the device alone: masking, both passes, the guards' verdict, AdamW.

The host says what changes from update to update in one small copy and reads one row of numbers when
it is done; in between it decides nothing. On a GPU all of it is recorded as one CUDA graph (three
where an update has several micro-batches, as each draws its dropout from a seed of its own).
On a CPU the same functions run one by one.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convbert.data_pipeline.loading.batch import Batch
from convbert.pretrain.engine.device_optimizer import DeviceOptimizer
from convbert.pretrain.engine.engine import Engine
from convbert.pretrain.engine.recording import Recorder, Work, record
from convbert.pretrain.objective.losses import STATISTICS, Normalizers
from convbert.pretrain.objective.masking import (
    MaskedBatch,
    SamplingTensors,
    SpecialIds,
    mask_batch,
)
from convbert.pretrain.run.division import BatchDivision
from convbert.pretrain.run.schedule import Sampling
from convbert.pretrain.settings.run import RunConfig

_ALIKE = 1e-2  # relative difference of a recorded update's loss and norm to those of the same one
_AT = {name: index for index, name in enumerate(STATISTICS)}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Instructions:
    """What the host says of an update: its samples, its guards' limits and its learning rates.

    ``median`` and ``spread`` are those of ``Judge.refused_above``; ``rates`` one for each group.
    """

    sampling: Sampling
    median: float
    spread: float
    rates: Sequence[float]

    def numbers(self, *, allowed: bool) -> list[float]:
        """Return what is copied to the device; not ``allowed``, nothing changes while recording."""
        drawn = self.sampling
        given = [drawn.mask_fraction, drawn.temperature, self.median, self.spread, float(allowed)]
        return [*given, *self.rates]


class DeviceUpdate:
    """The update of one phase, on one process with ZeRO stage 0 or 1.

    ``observe`` sees loss and statistics of each micro-batch and returns those to go on with; what
    is recorded has seen it once.
    """

    def __init__(
        self,
        engine: Engine,
        optimizer: DeviceOptimizer,
        config: RunConfig,
        special: SpecialIds,
        seed: int,
        division: BatchDivision,
        observe: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        recorder: Recorder | None = None,
    ) -> None:
        """``seed`` is that of the phase's masks; ``recorder`` is that of a GPU, on a GPU."""
        self._engine, self._optimizer, self._observe = engine, optimizer, observe
        self._objective, self._threshold = config.objective, config.guards.spike_threshold
        self._special, self._seed, self._division = special, seed, division
        self._recorder = recorder or (record if engine.device.type == "cuda" else None)
        device, count = engine.device, len(optimizer.groups)
        # What the host writes before an update, and what it reads after it.
        self._batch: Batch | None = None
        self._said = torch.zeros(5 + count, dtype=torch.float64, device=device)
        self._index = torch.zeros((), dtype=torch.int64, device=device)
        self._report = torch.zeros(len(STATISTICS) + 2, dtype=torch.float64, device=device)
        self._sums = torch.zeros(len(STATISTICS), device=device)
        self._masked: MaskedBatch | None = None
        self._counts: Normalizers | None = None
        self._parts: tuple[Work, ...] = self._plain_parts()

    def __call__(self, batch: Batch, seeds: Sequence[int], said: Instructions) -> Tensor:
        """Run an update whose micro-batches drop out by ``seeds``; return its report, fp64 on the
        device: the sums of ``STATISTICS``, the norm of the gradient, and 1 if it was applied."""
        if self._batch is None:
            self._batch = batch.to(self._engine.device)
            if self._recorder is not None:
                self._parts = self._recorded(self._recorder, seeds, said)
        self._load(batch, said.numbers(allowed=True))
        self._run(self._parts, seeds)
        return self._report

    def _load(self, batch: Batch, numbers: Sequence[float]) -> None:
        assert self._batch is not None
        for name, value in vars(self._batch).items():
            if isinstance(value, Tensor):
                value.copy_(getattr(batch, name), non_blocking=True)
        self._said.copy_(torch.tensor(numbers, dtype=torch.float64), non_blocking=True)

    def _plain_parts(self) -> tuple[Work, ...]:
        """Return an update in as few parts as it has places where the host seeds the dropout."""
        if self._division.accumulation == 1:
            return (self._whole,)
        return self._begin, self._micro_batch, self._finish

    def _run(self, parts: tuple[Work, ...], seeds: Sequence[int]) -> None:
        if len(parts) == 1:
            torch.manual_seed(seeds[0])
            parts[0]()
            return
        begin, micro_batch, finish = parts
        begin()
        for index, seed in enumerate(seeds):
            self._index.fill_(index)
            torch.manual_seed(seed)
            micro_batch()
        finish()

    def _recorded(
        self, recorder: Recorder, seeds: Sequence[int], said: Instructions
    ) -> tuple[Work, ...]:
        """Return the recorded parts, or the plain ones if they cannot be or do something else."""
        plain = self._plain_parts()
        assert self._batch is not None
        self._load(self._batch, said.numbers(allowed=False))
        self._run(plain, seeds)
        expected = self._report.tolist()
        try:
            parts = tuple(recorder(part) for part in plain)
            self._report.zero_()
            self._run(parts, seeds)
            found = self._report.tolist()
        except RuntimeError as error:
            reason = next(iter(str(error).split("\n")), "")
            log.warning(
                "the update cannot be recorded as a CUDA graph (%s); it runs as it is", reason
            )
            return plain
        wrong = [
            name
            for name, old, new in zip((*STATISTICS, "norm"), expected, found, strict=False)
            if name in ("mlm_loss", "rtd_loss", "norm") and not abs(new - old) <= _ALIKE * abs(old)
        ]
        if wrong:
            log.warning("the recorded update has another %s; it runs as it is", ", ".join(wrong))
            return plain
        log.info("the whole update is %d CUDA graph%s", len(parts), "s" if len(parts) > 1 else "")
        return parts

    def _whole(self) -> None:
        self._mask()
        assert self._masked is not None
        self._passes(self._masked, first=True)
        self._finish()

    def _begin(self) -> None:
        self._mask()
        self._optimizer.clear()

    def _mask(self) -> None:
        """Mask the process's rows and count what the losses are averaged over."""
        assert self._batch is not None
        masking = self._objective.masking
        drawn = SamplingTensors(self._said[0].float(), self._said[1].float())
        masked = mask_batch(masking, self._special, self._seed, self._batch, drawn)
        counts = torch.stack([masked.valid_BM.sum(), (masked.document_ids_BL > 0).sum()]).float()
        self._masked, self._counts = masked, Normalizers(counts[0], counts[1])
        self._sums.zero_()

    def _micro_batch(self) -> None:
        assert self._masked is not None
        rows = self._division.micro_batch
        chosen = self._index * rows + torch.arange(rows, device=self._index.device)
        self._passes(self._masked.chosen(chosen), first=False)

    def _passes(self, masked: MaskedBatch, *, first: bool) -> None:
        """Run both passes of a micro-batch and add its gradients and sums to the update's."""
        loss, statistics = self._observe(*self._engine.module(masked, self._counts))
        parameters = self._optimizer.parameters
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        self._optimizer.add(gradients, first=first)
        self._sums += statistics

    def _finish(self) -> None:
        """Judge the update as ``Judge.look`` will, apply it or not, and write the report."""
        sums, norm = self._sums.double(), self._optimizer.norm()
        _, _, median, spread, allowed = self._said[:5].unbind()
        loss = self._objective.generator_weight * _mean(sums, "mlm_loss", "mlm_slots")
        loss = loss + self._objective.discriminator_weight * _mean(sums, "rtd_loss", "rtd_tokens")
        bearable = (loss - median) / spread <= self._threshold
        apply = loss.isfinite() & norm.isfinite() & bearable & (allowed > 0)
        self._optimizer.step(self._said[5:].float(), norm, apply)
        self._report.copy_(torch.cat([sums, torch.stack([norm.double(), apply.double()])]))


def _mean(sums: Tensor, count: str, of: str) -> Tensor:
    return sums[_AT[count]] / sums[_AT[of]].clamp(min=1.0)
