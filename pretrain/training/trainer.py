"""The training loop: batches in, updates, metrics and checkpoints out.

Everything random is a function of the step, so the only state besides parameters and moments is
the number of finished updates and what the guards remember.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from convbert.data_pipeline.loading.batch import Batch
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.encoder import Encoder
from convbert.models.errors import UserError
from convbert.models.ops.compilation import compile_for_training
from convbert.models.pretraining import build_model
from convbert.pretrain.checkpoints.saving import Checkpointer
from convbert.pretrain.engine.assembly import build_engine
from convbert.pretrain.engine.deepspeed_config import (
    load_deepspeed_config,
    require_graphs,
    resolve_deepspeed_config,
)
from convbert.pretrain.engine.engine import Engine
from convbert.pretrain.engine.norms import PartNorms
from convbert.pretrain.exchange.importing import initialize_from
from convbert.pretrain.guards import divergence
from convbert.pretrain.guards.judge import Event, Judge
from convbert.pretrain.guards.watchdog import Watchdog
from convbert.pretrain.objective.held_out import HeldOut
from convbert.pretrain.objective.losses import STATISTICS, Normalizers, build_objective, summarize
from convbert.pretrain.objective.masking import MaskedBatch, SpecialIds, mask_batch
from convbert.pretrain.run import metric_names
from convbert.pretrain.run.data_order import DataOrder
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.run.division import BatchDivision
from convbert.pretrain.run.seeds import mix
from convbert.pretrain.run.timeline import Phase, Timeline
from convbert.pretrain.settings.run import RunConfig
from convbert.pretrain.tracking.tracker import Tracker
from convbert.pretrain.training.loader import PhasedLoader
from convbert.pretrain.training.profiling import ProfileWindow
from convbert.pretrain.training.progress import Progress
from convbert.pretrain.training.reporting import Reporter, Row
from convbert.pretrain.training.stopping import StopRequest
from convbert.pretrain.training.throughput import peak_flops

_DROPOUT_STREAM = 4


def _agree(sums: Tensor, norm: float | Tensor) -> list[float]:
    """Add the sums up over the processes and return them and the norm.

    This is the one place of an update where this package makes the host wait for the device. It
    lies before the optimizer, whose work then runs while the host prepares the next batch.
    """
    dist.all_reduce(sums)
    return torch.cat([sums, torch.as_tensor(norm, device=sums.device).float().view(1)]).tolist()


class Trainer:
    """One process's part of a run."""

    def __init__(
        self, run: RunDirectory, config: RunConfig, tokenizer: Tokenizer, timeline: Timeline
    ) -> None:
        self.run = run
        self.config = config
        self.rank = dist.get_rank()
        self.timeline = timeline
        self.phase = timeline.phases[0]
        self.split = self._split()
        self.special = SpecialIds(
            tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id
        )
        self.networks = config.model.build(timeline.corpora[0].vocab_size)
        self.engine, norms = self._engine()
        configured = config.peak_tflops and config.peak_tflops * 1e12
        peak = peak_flops(self.engine.device, config.precision, configured)
        self.judge = Judge(config.guards)
        self.reporter = Reporter(timeline, self.engine, norms, self.judge, peak)
        self.profile = ProfileWindow(config.profile if self.rank == 0 else None, run.path)
        # As configured: what the machine decided of it does not tell which run a checkpoint is of.
        self.checkpointer = Checkpointer(run.checkpoints, run.open(), self.engine)
        self.held_out = (
            HeldOut(config.evaluation, config.objective.masking, tokenizer)
            if config.evaluation.held_out
            else None
        )
        self.step = 0
        self.order = DataOrder(config.global_batch)
        self.watchdog = Watchdog(
            run.path, self.rank, dist.get_world_size(), config.guards.hang_seconds
        )

    def _split(self) -> BatchDivision:
        return BatchDivision.of(
            self.phase.global_batch, self.phase.micro_batch, dist.get_world_size()
        )

    def _enter(self, phase: Phase) -> None:
        """Go on with the shards, the batch and the division of a phase."""
        if phase != self.phase:
            self.phase = phase
            self.split = self._split()
            self.engine.set_accumulation(self.split.micro_batch, self.split.accumulation)
        self.judge.enter(phase.start)

    def _engine(self) -> tuple[Engine, PartNorms]:
        config = self.config
        torch.manual_seed(mix(config.seed, 0))
        model = build_model(self.networks)
        for module in model.modules():
            if isinstance(module, Encoder):
                module.gradient_checkpointing = config.activation_checkpointing
        if config.model.init_from:
            initialize_from(model, config.model.init_from)
        objective = build_objective(model, config.objective)
        deepspeed = resolve_deepspeed_config(
            load_deepspeed_config(config.deepspeed),
            precision=config.settled_precision,
            micro_batch=self.split.micro_batch,
            accumulation=self.split.accumulation,
            clip=config.optimizer.clip,
        )
        if config.cuda_graphs:
            require_graphs(deepspeed)
        if config.compile:
            compile_for_training(objective, cuda_graphs=config.cuda_graphs)
        engine, norms = build_engine(objective, deepspeed, config.optimizer)
        engine.replays_graphs = config.cuda_graphs
        return engine, norms

    def resume(self) -> int:
        """Continue from the newest good checkpoint; return the number of finished updates."""
        state = self.checkpointer.restore()
        if state is not None:
            self._adopt(state)
            self._require_same_data(state["data"])
        return self.step

    def _data(self) -> str:
        """Identify the data that was read, or will be first."""
        return self.timeline.digest_until(self.order.number(self.step))

    def _require_same_data(self, trained: str) -> None:
        """Refuse other data than the checkpoint's: a step would stand for other sequences."""
        pairs = zip(
            self.timeline.corpora, self._data().split("/"), trained.split("/"), strict=False
        )
        for corpus, found, expected in pairs:
            if found != expected:
                raise UserError(
                    f"{corpus.name}: is not the data this run was trained on (digest "
                    f"{found[:12]} instead of {expected[:12]}); restore those shards or choose "
                    "another --run-dir"
                )

    def _adopt(self, state: dict[str, Any], *, keep_counts: bool = False) -> None:
        self.step = int(state["step"])
        self.order = DataOrder(self.config.global_batch, state["skipped"])
        self.judge.load(state["guards"], keep_counts=keep_counts)

    def fit(
        self, loader: PhasedLoader, tracker: Tracker, progress: Progress, stop: StopRequest
    ) -> bool:
        """Train to the end; return False if a signal asked to stop earlier.

        Either way the last update is in a checkpoint when this returns.
        """
        with self.watchdog:
            finished = self._train(loader, tracker, progress, stop)
            self.watchdog.beat(self.step, "checkpoint")
            self.checkpointer.finish()
        return finished

    def _train(
        self, loader: PhasedLoader, tracker: Tracker, progress: Progress, stop: StopRequest
    ) -> bool:
        self._note_damaged(tracker)
        batches = self.order.read(loader, self.step)
        self.reporter.start()
        self.profile.at(self.step)
        while self.step < self.config.steps:
            row, event = self._update(batches, tracker, stop.requested)
            if event is not None and self._react(event, row, tracker):
                batches = self.order.read(loader, self.step)
                continue
            if row.failed:
                self._failed(self.checkpointer.settle(), tracker)
            self._compare()
            stopping = row.stop and self.step < self.config.steps
            if stopping or self._report_due(self.step):
                self._report(tracker, progress)
            if stopping or self.checkpointer.due(self.step) or self.step == self.config.steps:
                self._save(tracker)
            if stopping:
                return False
        return True

    def _report_due(self, step: int) -> bool:
        return (
            step % self.config.tracking.log_every == 0
            or self.checkpointer.due(step)
            or step == self.config.steps
        )

    def _save(self, tracker: Tracker) -> None:
        self.watchdog.beat(self.step, "checkpoint")
        tracker.flush()
        state = {
            "sequences": self.timeline.sequences(self.order.number(self.step)),
            "data": self._data(),
            "skipped": self.order.state(),
            "guards": self.judge.state(),
            "metrics": self.reporter.take_means(),
        }
        with self.engine.stopwatch("checkpoint"):
            problem = self.checkpointer.save(self.step, state)
        self._failed(problem, tracker)
        if self.held_out is not None:
            self._measure(self.held_out, tracker)

    def _measure(self, held_out: HeldOut, tracker: Tracker) -> None:
        """Log the objective on held-out text; a point of a curve for every checkpoint."""
        self.watchdog.beat(self.step, "held-out text")
        values = held_out.measure_together(self.engine.evaluate, self.engine.module)
        for name, value in values.items():
            tracker.curve_point(self.timeline.flops(self.step), name, value, step=self.step)

    def _failed(self, problem: str | None, tracker: Tracker) -> None:
        """Act on a checkpoint that could not be written, if there is a problem."""
        if problem is None:
            return
        action = self.config.checkpoint.on_failure
        tracker.event("checkpoint_failed", action, self.step, {})
        if action == "stop":
            raise UserError(
                f"{problem}; free space or permissions, then start the run again to continue from "
                "the previous checkpoint"
            )
        if self.rank == 0:
            print(f"warning: {problem}; training goes on without it", flush=True)

    def _note_damaged(self, tracker: Tracker) -> None:
        """Record which checkpoints could not be used, so that the run went on from an older one."""
        for step in self.checkpointer.take_damaged():
            tracker.event("checkpoint_damaged", "skip", self.step, {"checkpoint": step})

    def _compare(self) -> None:
        """Check now and then that all processes hold the same parameters and counters."""
        every = self.config.guards.compare_every
        if every and self.step % every == 0:
            counters = {
                "number of updates": self.step,
                "applied updates": self.engine.updates,
                "data position": self.order.number(self.step),
            }
            divergence.check(self.engine.module, counters, self.step)

    def _update(
        self, batches: Iterator[tuple[int, Batch]], tracker: Tracker, stop: bool
    ) -> tuple[Row, Event | None]:
        """Run one update on the next global batch, judge it and keep its statistics."""
        self.watchdog.beat(self.step, "data")
        with self.engine.stopwatch("data"):
            number, batch = next(batches)
        self.watchdog.beat(self.step, "update")
        self._enter(self.timeline.at(number))
        masked = self._mask(batch)
        normalisers = self._normalisers(masked)
        rate = self.timeline.learning_rate(self.step)
        flags = [float(stop), float(self.checkpointer.failed)]
        sums = torch.tensor([0.0] * len(STATISTICS) + flags, device=self.engine.device)
        event: Event | None = None
        self.reporter.expect(reported=self._report_due(self.step + 1))
        values: list[float] = []

        def accept(norm: float | Tensor) -> bool:
            nonlocal event, values
            values = _agree(sums, norm)
            event = self.judge.look(self._loss(values), values[-1])
            return event is None or event.applied

        for index in range(self.split.accumulation):
            self._seed_dropout(index)
            start = index * self.split.micro_batch
            micro = masked.rows(start, start + self.split.micro_batch)
            sums[: len(STATISTICS)] += self.engine.forward_backward(micro, normalisers)
            update = self.engine.step(rate, accept)
        assert update is not None
        if update.overflow:
            values = _agree(sums, update.norm)
            scaled = self.config.precision == "fp16"
            event = self.judge.overflowed(self._loss(values), scaled=scaled)
        self.step += 1
        if (trace := self.profile.at(self.step)) is not None:
            tracker.artifact(trace)
        *counts, stops, failures, last_norm = values
        row = Row(
            step=self.step,
            batch=number,
            sums=dict(zip(STATISTICS, counts, strict=True)),
            loss=self._loss(values),
            norm=last_norm,
            applied=update.applied,
            stop=stops > 0,
            failed=failures > 0,
        )
        self.reporter.add(row)
        return row, event

    def _loss(self, sums: list[float]) -> float:
        """Return the total loss per slot and token."""
        weights = self.config.objective
        values = summarize(dict(zip(STATISTICS, sums, strict=False)))
        return weights.generator_weight * values[metric_names.LOSS_MLM] + (
            weights.discriminator_weight * values.get(metric_names.LOSS_RTD, 0.0)
        )

    def _react(self, event: Event, row: Row, tracker: Tracker) -> bool:
        """Record what happened to an update and act on it; return True after a rollback."""
        first, last = self.timeline.positions(row.batch)
        facts = {"loss": row.loss, "norm": row.norm, "first_sequence": first, "last_sequence": last}
        if event.score is not None:
            facts["score"] = event.score
        if event.action == "rollback" and (state := self.checkpointer.restore()) is not None:
            resumed = int(state["step"])
            low = max(self.order.number(resumed), row.batch + 1 - self.config.guards.rollback_span)
            self._adopt(state, keep_counts=True)
            self.order.leave_out(low, row.batch + 1)
            self.reporter.forget()
            facts |= {"first_sequence": self.timeline.positions(low)[0], "step": row.step}
            tracker.rewind(resumed)
            tracker.event(event.kind, "rollback", resumed + 1, facts)
            self._note_damaged(tracker)
            return True
        action = "skip" if event.action == "rollback" else event.action
        tracker.event(event.kind, action, row.step, facts)
        if action == "stop":
            self.reporter.write(tracker)
            tracker.flush()
            raise UserError(
                f"step {row.step}: {event.kind} (loss {row.loss}, gradient norm {row.norm}, "
                f"sequences {first} to {last - 1}); {event.reason or 'the policy is stop'}; the "
                "update was not applied and the last checkpoint is good; lower "
                "optimizer.learning_rate, use precision=fp32, or change guards"
            )
        return False

    def _mask(self, batch: Batch) -> MaskedBatch:
        batch = batch.to(self.engine.device)
        return mask_batch(self.config.objective.masking, self.special, self.phase.seed, batch)

    def _normalisers(self, masked: MaskedBatch) -> Normalizers:
        """Count over the global batch, scaled for DeepSpeed's averaging.

        DeepSpeed divides by the accumulation steps and averages over the processes; multiplying
        the loss by both leaves a plain sum over the global batch.
        """
        counts = torch.stack([masked.valid_BM.sum(), (masked.document_ids_BL > 0).sum()]).float()
        dist.all_reduce(counts)
        counts = counts / (self.split.world * self.split.accumulation)
        return Normalizers(slots=counts[0], tokens=counts[1])

    def _seed_dropout(self, index: int) -> None:
        """Seed from the place of the micro-batch in the global batch, not from the process."""
        place = self.rank * self.split.accumulation + index
        torch.manual_seed(mix(self.config.seed, _DROPOUT_STREAM, self.step, place))

    def _report(self, tracker: Tracker, progress: Progress) -> None:
        """Log every update since the last report."""
        self.watchdog.beat(self.step, "report")
        if values := self.reporter.write(tracker):
            progress.update(self.step, values)
