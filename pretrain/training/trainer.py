"""The training loop: batches in, updates, metrics and checkpoints out.

Everything random is a function of the step, so the only state besides parameters and moments is
the number of finished updates.
"""

import math
import time
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor

from convbert.data_pipeline.batch import Batch
from convbert.data_pipeline.loader import ShardLoader
from convbert.data_pipeline.manifest import Manifest
from convbert.data_pipeline.tokenizer import Tokenizer
from convbert.models.errors import UserError
from convbert.models.flops import training_flops_per_sequence
from convbert.models.pretraining import build_model
from convbert.pretrain.checkpoints.saving import Checkpointer
from convbert.pretrain.checks import Split
from convbert.pretrain.config import RunConfig
from convbert.pretrain.exchange.importing import initialise_from
from convbert.pretrain.objective.counter_rng import mix
from convbert.pretrain.objective.losses import STATISTICS, Normalisers, build_objective, summarise
from convbert.pretrain.objective.masking import MaskedBatch, SpecialIds, mask_batch
from convbert.pretrain.run_directory import RunDirectory
from convbert.pretrain.tracking.tracker import Tracker
from convbert.pretrain.training.engine import (
    Engine,
    build_engine,
    load_deepspeed_config,
    resolve_deepspeed_config,
)
from convbert.pretrain.training.progress import Progress
from convbert.pretrain.training.schedule import learning_rate
from convbert.pretrain.training.stopping import StopRequest

_DROPOUT_STREAM = 4


class Window:
    """Statistics of the steps since the last report, kept on the device.

    Reading a value from a GPU waits for it, so values of several steps are reduced over the
    processes and read at once.
    """

    def __init__(self) -> None:
        self.rows: list[Tensor] = []

    def add(self, statistics: Tensor) -> None:
        """Add one step's statistics of this process."""
        self.rows.append(statistics)

    def reduce(self) -> list[list[float]]:
        """Return the sums over all processes, a row per step, and start afresh."""
        table = torch.stack(self.rows)
        dist.all_reduce(table)
        self.rows = []
        return table.tolist()


class Trainer:
    """One process's part of a run."""

    def __init__(
        self, run: RunDirectory, config: RunConfig, tokenizer: Tokenizer, manifest: Manifest
    ) -> None:
        self.run = run
        self.config = config
        self.rank, world = dist.get_rank(), dist.get_world_size()
        self.split = Split.of(config.global_batch, config.micro_batch, world)
        self.special = SpecialIds(
            tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id
        )
        self.manifest = manifest
        self.networks = config.model.build(manifest.vocab_size)
        self.engine = self._engine()
        self.checkpointer = Checkpointer(run.checkpoints, config.checkpoint, self.engine)
        self.flops = {
            convention: config.global_batch
            * training_flops_per_sequence(self.networks, manifest.seq_len, convention)
            for convention in ("electra", "hardware")
        }
        self.step = 0
        self.window = Window()

    def _engine(self) -> Engine:
        config = self.config
        torch.manual_seed(mix(config.seed, 0))
        model = build_model(self.networks)
        if config.model.init_from:
            initialise_from(model, config.model.init_from)
        objective = build_objective(model, config.objective)
        if config.compile:
            objective.compile()
        deepspeed = resolve_deepspeed_config(
            load_deepspeed_config(config.deepspeed),
            precision=config.precision,
            micro_batch=self.split.micro_batch,
            accumulation=self.split.accumulation,
            clip=config.optimizer.clip,
        )
        settings = config.optimizer
        return build_engine(
            objective,
            deepspeed,
            weight_decay=settings.weight_decay,
            betas=settings.betas,
            eps=settings.eps,
            bias_correction=settings.bias_correction,
        )

    def resume(self) -> int:
        """Continue from the newest good checkpoint; return the number of finished updates."""
        state = self.checkpointer.restore()
        if state is not None:
            self.step = int(state["step"])
        return self.step

    def fit(
        self, loader: ShardLoader, tracker: Tracker, progress: Progress, stop: StopRequest
    ) -> bool:
        """Train to the end; return False if a signal asked to stop earlier.

        Either way the last update is in a checkpoint when this returns.
        """
        batches = loader.iterate(self.step)
        self._started = time.monotonic()
        while self.step < self.config.steps:
            self._update(batches)
            if self._report_due():
                stopping = self._report(tracker, progress, stop.requested)
                if stopping and self.step < self.config.steps:
                    self._save(tracker)
                    return False
            if self.checkpointer.due(self.step) or self.step == self.config.steps:
                self._save(tracker)
        return True

    def _report_due(self) -> bool:
        return (
            self.step % self.config.tracking.log_every == 0
            or self.checkpointer.due(self.step)
            or self.step == self.config.steps
        )

    def _save(self, tracker: Tracker) -> None:
        tracker.flush()
        self.checkpointer.save(self.step, {"sequences": self.step * self.split.global_batch})

    def _update(self, batches: Iterator[Batch]) -> None:
        """Run one update on the next global batch and keep its statistics."""
        masked = self._mask(next(batches))
        normalisers = self._normalisers(masked)
        rate = learning_rate(
            self.config.schedule,
            self.step,
            self.config.steps,
            self.config.optimizer.learning_rate,
        )
        total: Tensor | None = None
        norm: float | Tensor = 0.0
        for index in range(self.split.accumulation):
            self._seed_dropout(index)
            start = index * self.split.micro_batch
            micro = masked.rows(start, start + self.split.micro_batch)
            statistics = self.engine.forward_backward(micro, normalisers)
            total = statistics if total is None else total + statistics
            norm = self.engine.step(rate)
        assert total is not None
        # The norm is the same on every process: an equal share each survives the summation.
        share = torch.as_tensor(norm, device=total.device).float() / self.split.world
        self.window.add(torch.cat([total, share.reshape(1)]))
        self.step += 1

    def _mask(self, batch: Batch) -> MaskedBatch:
        batch = batch.to(self.engine.device)
        return mask_batch(self.config.objective.masking, self.special, self.config.seed, batch)

    def _normalisers(self, masked: MaskedBatch) -> Normalisers:
        """Count over the global batch, scaled for DeepSpeed's averaging.

        DeepSpeed divides by the accumulation steps and averages over the processes; multiplying
        the loss by both leaves a plain sum over the global batch.
        """
        counts = torch.stack([masked.valid_BM.sum(), (masked.document_ids_BL > 0).sum()]).float()
        dist.all_reduce(counts)
        counts = counts / (self.split.world * self.split.accumulation)
        return Normalisers(slots=counts[0], tokens=counts[1])

    def _seed_dropout(self, index: int) -> None:
        """Seed from the place of the micro-batch in the global batch, not from the process."""
        place = self.rank * self.split.accumulation + index
        torch.manual_seed(mix(self.config.seed, _DROPOUT_STREAM, self.step, place))

    def _report(self, tracker: Tracker, progress: Progress, stop: bool) -> bool:
        """Log every step of the window; return whether any process was asked to stop."""
        count = len(self.window.rows)
        flag = torch.zeros_like(self.window.rows[0])
        flag[0] = float(stop)
        self.window.add(flag)
        *rows, flags = self.window.reduce()
        now = time.monotonic()
        seconds = (now - self._started) / count
        self._started = now
        tokens = sum(row[STATISTICS.index("rtd_tokens")] for row in rows)
        for offset, row in enumerate(rows):
            step = self.step - count + offset + 1
            values = self._values(step, row)
            values["speed/tokens_per_second"] = tokens / count / seconds
            values["speed/step_seconds"] = seconds
            tracker.log(step, step * self.flops["electra"], values)
        progress.update(self.step, values)
        return flags[0] > 0

    def _values(self, step: int, row: list[float]) -> dict[str, float]:
        *sums, norm = row
        weights = self.config.objective
        values = summarise(dict(zip(STATISTICS, sums, strict=True)))
        values["loss/total"] = weights.generator_weight * values["loss/mlm"] + (
            weights.discriminator_weight * values.get("loss/rtd", 0.0)
        )
        if not math.isfinite(values["loss/total"]):
            raise UserError(
                f"step {step}: the loss is {values['loss/total']}; the last good checkpoint is "
                "kept; lower optimizer.learning_rate or use precision=fp32"
            )
        rate = learning_rate(
            self.config.schedule, step - 1, self.config.steps, self.config.optimizer.learning_rate
        )
        return values | {
            "optimizer/gradient_norm": norm,
            "optimizer/learning_rate": rate,
            "optimizer/skipped_steps": float(self.engine.skipped_steps),
            "flops/electra": step * self.flops["electra"],
            "flops/hardware": step * self.flops["hardware"],
            "tokens": float(step * self.split.global_batch * self.manifest.seq_len),
        }
