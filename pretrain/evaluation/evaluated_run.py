"""A run's checkpoints as starting points of evaluations, with the training FLOPs they cost."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import AbsentError
from convbert.models.pretraining import PretrainingModel, build_model, kept_encoder
from convbert.pretrain.exchange.trained_model import load_model
from convbert.pretrain.finetune.device import compute_device
from convbert.pretrain.finetune.workers import InitialEncoder
from convbert.pretrain.run.checkpoint_manifest import checkpoint_steps
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.run.timeline import Timeline
from convbert.pretrain.tracking.tracker import Tracker, add_to_run

BASELINE = "from random weights"


@dataclass(frozen=True)
class StartingPoint:
    """Weights that are evaluated: name, step, and training FLOPs in the papers' convention."""

    label: str
    step: int
    flops: float


PointValues = tuple[StartingPoint, dict[str, float]]
"""A starting point, and the values of its measures by name."""


class EvaluatedRun:
    """Chosen checkpoints of one run, and the same model before any training."""

    def __init__(self, run: RunDirectory, steps: Sequence[int] = (), average: int = 1) -> None:
        """Choose ``steps``, by default all; raises ``UserError`` where there are too few.

        The weights of ``average`` checkpoints up to each step are averaged.
        """
        self._average = average
        self.run = run
        self.config = run.open()
        present = checkpoint_steps(run.checkpoints)
        self.steps = list(steps or present[average - 1 :])
        if not self.steps:
            remedy = "keep more (checkpoint.keep_last)" if present else "train the run first"
            raise AbsentError(
                f"{run.checkpoints}: {len(present)} checkpoints, {average} are needed; {remedy}"
            )
        timeline = Timeline.load(self.config)
        self.networks = self.config.model.build(timeline.corpora[0].vocab_size)
        self.tokenizer = Tokenizer.load(self.config.data.tokenizer)
        self.points = [StartingPoint(BASELINE, 0, 0.0)]
        self.points += [StartingPoint(f"step {s}", s, timeline.flops(s)) for s in self.steps]

    def task_name(self, task: str) -> str:
        """Return the name for a task's results, which is another one for averaged weights."""
        return task if self._average == 1 else f"{task}_average_{self._average}"

    def encoders(self) -> dict[str, InitialEncoder]:
        """Return what fine-tuning starts from: a shape for random weights, then the encoders."""
        encoders: dict[str, InitialEncoder] = {BASELINE: self.networks.discriminator}
        for point in self.points[1:]:
            encoders[point.label] = kept_encoder(load_model(self.run, point.step, self._average)[0])
        return encoders

    def models(self) -> Iterator[tuple[StartingPoint, PretrainingModel]]:
        """Yield the networks one by one on this process's device, the untrained ones first.

        The untrained ones are always the same.
        """
        device = compute_device()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            untrained = build_model(self.networks)
        yield self.points[0], untrained.to(device)
        for point in self.points[1:]:
            yield point, load_model(self.run, point.step, self._average)[0].to(device)

    @contextmanager
    def tracker(self) -> Iterator[Tracker]:
        """Add to what the run's training logged; after an error nothing is added."""
        tracker = add_to_run(
            self.run.path,
            experiment=self.config.tracking.experiment,
            run_name=self.run.name,
            tracking_uri=self.config.tracking.uri,
        )
        try:
            yield tracker
        except BaseException:
            tracker.close("FAILED")
            raise
        tracker.close("FINISHED")
