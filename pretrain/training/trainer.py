"""The training loop: batches in, updates, metrics and checkpoints out.

Everything random is a function of the step, so the only state besides parameters and moments is
the number of finished updates and what the guards remember.
"""

import logging
from typing import Any

import torch
import torch.distributed as dist

from convbert.data_pipeline.loading.batch import Batch
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import UserError
from convbert.pretrain.checkpoints.saving import WHEN_NOT_WRITTEN, Checkpointer
from convbert.pretrain.engine.device_optimizer import DeviceOptimizer
from convbert.pretrain.engine.peak import peak_flops
from convbert.pretrain.guards import divergence
from convbert.pretrain.guards.judge import Event, Judge
from convbert.pretrain.guards.watchdog import Watchdog
from convbert.pretrain.objective.losses import STATISTICS
from convbert.pretrain.objective.masking import SpecialIds, mask_batch
from convbert.pretrain.run.data_order import DataOrder
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.run.division import BatchDivision
from convbert.pretrain.run.schedule import Sampling, sampling
from convbert.pretrain.run.seeds import mix
from convbert.pretrain.run.timeline import Phase, Timeline
from convbert.pretrain.settings.run import RunConfig
from convbert.pretrain.tracking.tracker import Tracker
from convbert.pretrain.training.build import build_training, updates_on_device
from convbert.pretrain.training.device_update import DeviceUpdate, Instructions
from convbert.pretrain.training.hooks import Hooks
from convbert.pretrain.training.loader import PhasedLoader
from convbert.pretrain.training.measures import CheckpointMeasures
from convbert.pretrain.training.profiling import ProfileWindow
from convbert.pretrain.training.progress import Progress
from convbert.pretrain.training.reporting import Reporter, Row
from convbert.pretrain.training.samples import CheckpointSamples
from convbert.pretrain.training.stopping import StopRequest
from convbert.pretrain.training.totals import (
    Totals,
    normalizers,
    read_report,
    sum_over_processes,
)

_DROPOUT_STREAM = 4

log = logging.getLogger(__name__)


class Trainer:
    """One process's part of a run."""

    def __init__(
        self,
        run: RunDirectory,
        config: RunConfig,
        tokenizer: Tokenizer,
        timeline: Timeline,
        hooks: Hooks | None = None,
    ) -> None:
        self.run = run
        self.config = config
        self.hooks = hooks or Hooks()
        self.rank = dist.get_rank()
        self.timeline = timeline
        self.phase = timeline.phases[0]
        self.division = self._division()
        self.special = SpecialIds(
            tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id
        )
        self.networks = config.model.build(timeline.corpora[0].vocab_size)
        self.engine, norms = build_training(config, self.networks, self.division)
        self._device_optimizer: DeviceOptimizer | None = None
        if updates_on_device(config, dist.get_world_size()):
            self._device_optimizer = DeviceOptimizer(self.engine, config.optimizer.clip)
        self._device_update: DeviceUpdate | None = None
        self._number = 0
        configured = config.peak_tflops and config.peak_tflops * 1e12
        peak = peak_flops(self.engine.device, config.precision, configured)
        self.judge = Judge(config.guards)
        self.reporter = Reporter(timeline, self.engine, norms, self.judge, peak)
        self.profile = ProfileWindow(config.profile if self.rank == 0 else None, run.path)
        # As configured: what the machine decided of it does not tell which run a checkpoint is of.
        self.checkpointer = Checkpointer(run.checkpoints, run.open(), self.engine)
        self.measures = CheckpointMeasures(config, tokenizer, self.engine)
        self.samples = CheckpointSamples(run, config, tokenizer, self.engine)
        self.step = 0
        self.order = DataOrder(config.global_batch)
        self.watchdog = Watchdog(
            run.path, self.rank, dist.get_world_size(), config.guards.hang_seconds
        )

    def update(self, number: int, batch: Batch, *, stop: bool) -> tuple[Row, Event | None]:
        """Turn global batch ``number`` into new parameters; ``batch`` is this process's rows of it.

        What is masked and sampled is a function of the update and of a row's place in the global
        batch, over which losses are averaged too. What dropout drops is one of the update and of
        the micro-batch's place: another ``micro_batch`` draws other masks, more processes do not.
        Returns what the update did and, where something was wrong with it, the event; ``stop`` says
        that this process was asked to stop.
        """
        self._enter(self.timeline.at(number))
        self.hooks.before_update(self.step, number, batch)
        drawn = sampling(self.config.objective.masking, self.step, self.config.steps)
        way = self._by_engine if self._device_optimizer is None else self._on_device
        totals, applied, event = way(number, batch, drawn, stop)
        self.step += 1
        self.hooks.after_update(self.step, self.engine.module)
        return Row(self.step, number, totals, applied, drawn.temperature), event

    def _by_engine(
        self, number: int, batch: Batch, drawn: Sampling, stop: bool
    ) -> tuple[Totals, bool, Event | None]:
        """Let DeepSpeed add up gradients and update, once the guards have seen them."""
        batch = batch.to(self.engine.device)
        masked = mask_batch(
            self.config.objective.masking, self.special, self.phase.seed, batch, drawn
        )
        averaged_over = normalizers(masked, self.division)
        sums = torch.zeros(len(STATISTICS), device=self.engine.device)
        for index, seed in enumerate(self._dropout_seeds()):
            rows = masked.rows(*self.division.rows(index))
            torch.manual_seed(seed)
            loss, statistics = self.engine.forward(rows, averaged_over)
            loss, statistics = self.hooks.loss(number, loss, statistics)
            self.engine.backward(loss)
            sums += statistics
        norm = self.engine.gradient_norm(self._rate(), hold=self._warming())
        failed = self.checkpointer.failed
        totals = sum_over_processes(sums, norm, self.config.objective, stop=stop, failed=failed)
        event = self._look(totals)
        return totals, self.engine.finish(apply=event is None or event.applied), event

    def _on_device(
        self, number: int, batch: Batch, drawn: Sampling, stop: bool
    ) -> tuple[Totals, bool, Event | None]:
        """Let the device do all of it by the guards' limits, and look at what it did."""
        if self._device_update is None:
            self._device_update = self._new_device_update()
        self._number = number
        median, spread = self.judge.refused_above()
        rates = self.engine.rates(self._rate(), hold=self._warming())
        said = Instructions(drawn, median, spread, rates)
        norms = self.reporter.norms
        norms.before()
        with self.engine.stopwatch("update"):
            report = self._device_update(batch, self._dropout_seeds(), said)
        totals, applied = read_report(
            report, self.config.objective, stop=stop, failed=self.checkpointer.failed
        )
        event = self._look(totals)
        if applied != (event is None or event.applied):
            raise RuntimeError(f"update {self.step + 1}: device and guards disagree about {totals}")
        self.engine.finished(applied=applied)
        norms.after(applied=applied)
        return totals, applied, event

    def _new_device_update(self) -> DeviceUpdate:
        """Make the update of the current phase, which a GPU records when it first runs."""
        assert self._device_optimizer is not None
        return DeviceUpdate(
            self.engine,
            self._device_optimizer,
            self.config,
            self.special,
            self.phase.seed,
            self.division,
            lambda loss, statistics: self.hooks.loss(self._number, loss, statistics),
        )

    def _rate(self) -> float:
        return self.timeline.learning_rate(self.step)

    def _warming(self) -> bool:
        return self.step < self.config.objective.generator_warmup

    def _dropout_seeds(self) -> list[int]:
        """Return the seeds of this process's micro-batches, by their place in the global batch."""
        count = self.division.accumulation
        places = range(self.rank * count, (self.rank + 1) * count)
        return [mix(self.config.seed, _DROPOUT_STREAM, self.step, place) for place in places]

    def _enter(self, phase: Phase) -> None:
        """Go on with the shards, the batch and the division of a phase."""
        if phase != self.phase:
            self.phase = phase
            self.division = self._division()
            self._device_update = None
            self.engine.set_accumulation(self.division.micro_batch, self.division.accumulation)
        self.judge.enter(phase.start)

    def _division(self) -> BatchDivision:
        return BatchDivision.of(
            self.phase.global_batch, self.phase.micro_batch, dist.get_world_size()
        )

    def _look(self, totals: Totals) -> Event | None:
        """Judge an update before it is applied; None means that nothing is wrong."""
        if self.engine.overflowed:
            return self.judge.overflowed(totals.loss, scaled=self.config.precision == "fp16")
        return self.judge.look(totals.loss, totals.norm)

    def resume(self) -> int:
        """Continue from the newest good checkpoint; return the number of finished updates."""
        state = self.checkpointer.restore()
        if state is not None:
            self._adopt(state)
            self.timeline.require_data(state["data"], self.order.number(self.step))
        return self.step

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
            finished = self._fit(loader, tracker, progress, stop)
            self.watchdog.beat(self.step, "checkpoint")
            self.checkpointer.finish()
        return finished

    def _fit(
        self, loader: PhasedLoader, tracker: Tracker, progress: Progress, stop: StopRequest
    ) -> bool:
        self._note_damaged(tracker)
        batches = loader.batches(self.order, self.step)
        self.reporter.start()
        self.profile.begin(self.step, self.config.steps)
        while self.step < self.config.steps:
            self.watchdog.beat(self.step, "data")
            with self.engine.stopwatch("data"):
                number, batch = next(batches)
            self.watchdog.beat(self.step, "update")
            self.reporter.expect(reported=self._report_due(self.step + 1))
            asked = stop.requested or tracker.problem is not None
            row, event = self.update(number, batch, stop=asked)
            self.reporter.add(row)
            if (trace := self.profile.at(self.step)) is not None:
                tracker.artifact(trace)
            if event is not None and self._react(event, row, tracker):
                batches = loader.batches(self.order, self.step)
                continue
            if row.totals.failed:
                self._failed(self.checkpointer.settle(), tracker)
            self._compare()
            stopping = row.totals.stop and self.step < self.config.steps
            if stopping or self._report_due(self.step):
                self._report(tracker, progress)
            if stopping or self.checkpointer.due(self.step) or self.step == self.config.steps:
                self._save(tracker)
            if stopping:
                return False
        return True

    def _react(self, event: Event, row: Row, tracker: Tracker) -> bool:
        """Record what happened to an update and act on it; return True after a rollback."""
        first, last = self.timeline.positions(row.batch)
        loss, norm = row.totals.loss, row.totals.norm
        facts = {"loss": loss, "norm": norm, "first_sequence": first, "last_sequence": last}
        if event.score is not None:
            facts["score"] = event.score
        if event.action == "rollback" and (state := self.checkpointer.restore()) is not None:
            resumed = int(state["step"])
            low = max(self.order.number(resumed), row.batch + 1 - self.config.guards.rollback_span)
            self._adopt(state, keep_counts=True)
            self.order.leave_out(low, row.batch + 1)
            self.reporter.forget()
            facts |= {"first_sequence": self.timeline.positions(low)[0], "step": row.step}
            tracker.rollback(event.kind, resumed, facts)
            self._note_damaged(tracker)
            return True
        action = "skip" if event.action == "rollback" else event.action
        tracker.event(event.kind, action, row.step, facts)
        if action == "stop":
            self.reporter.write(tracker)
            tracker.flush()
            raise UserError(
                f"step {row.step}: {event.kind} (loss {loss}, gradient norm {norm}, "
                f"sequences {first} to {last - 1}); {event.reason or 'the policy is stop'}; the "
                "update was not applied and the last checkpoint is good; lower "
                "optimizer.learning_rate, use precision=fp32, or change guards"
            )
        return False

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

    def _report_due(self, step: int) -> bool:
        return (
            step % self.config.tracking.log_every == 0
            or self.checkpointer.due(step)
            or step == self.config.steps
        )

    def _report(self, tracker: Tracker, progress: Progress) -> None:
        """Log every update since the last report."""
        self.watchdog.beat(self.step, "report")
        if values := self.reporter.write(tracker):
            progress.update(self.step, values)

    def _save(self, tracker: Tracker) -> None:
        self.watchdog.beat(self.step, "checkpoint")
        tracker.flush()
        state = {
            "sequences": self.timeline.sequences(self.order.number(self.step)),
            "data": self.timeline.digest_until(self.order.number(self.step)),
            "skipped": self.order.state(),
            "guards": self.judge.state(),
            "metrics": self.reporter.take_means(),
        }
        with self.engine.stopwatch("checkpoint"):
            problem = self.checkpointer.save(self.step, state)
        self._failed(problem, tracker)
        flops = self.timeline.flops(self.step)
        self.measures.log(
            tracker, self.step, flops, lambda part: self.watchdog.beat(self.step, part)
        )
        self.watchdog.beat(self.step, "samples")
        self.samples.take(self.step, flops, self.phase.seq_len)

    def _failed(self, problem: str | None, tracker: Tracker) -> None:
        """Act on a checkpoint that could not be written, if there is a problem."""
        if problem is None:
            return
        action = self.config.checkpoint.on_failure
        tracker.event("checkpoint_failed", action, self.step, {})
        if action == "stop":
            raise UserError(f"{problem}; {WHEN_NOT_WRITTEN}")
        if self.rank == 0:
            log.warning("%s; training goes on without it", problem)

    def _note_damaged(self, tracker: Tracker) -> None:
        """Record which checkpoints could not be used, so that the run went on from an older one."""
        for step in self.checkpointer.take_damaged():
            tracker.event("checkpoint_damaged", "skip", self.step, {"checkpoint": step})
