"""A run's checkpoints as starting points of evaluations, with the training FLOPs they cost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import UserError
from convbert.models.pretraining import PretrainingModel, build_model, kept_encoder
from convbert.pretrain.exchange.trained_model import load_model
from convbert.pretrain.finetune.device import compute_device
from convbert.pretrain.finetune.runs import Start
from convbert.pretrain.run.checkpoint_manifest import checkpoint_steps
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.run.timeline import Timeline
from convbert.pretrain.tracking.tracker import Tracker, add_to_run

BASELINE = "from random weights"


@dataclass(frozen=True)
class Place:
    """A point on a run's way: its name, step and training FLOPs in the papers' convention."""

    label: str
    step: int
    flops: float


class Checkpoints:
    """Chosen checkpoints of one run, and the same model before any training."""

    def __init__(self, run: RunDirectory, steps: Sequence[int] = (), average: int = 1) -> None:
        """Choose ``steps``, or all that ``average`` allows; ``UserError`` where there is none.

        The weights of ``average`` checkpoints up to each step are averaged.
        """
        self._average = average
        self.run = run
        self.config = run.open()
        present = checkpoint_steps(run.checkpoints)
        self.steps = list(steps or present[average - 1 :])
        if not self.steps:
            remedy = "keep more (checkpoint.keep_last)" if present else "train the run first"
            raise UserError(
                f"{run.checkpoints}: {len(present)} checkpoints, {average} are needed; {remedy}"
            )
        timeline = Timeline.load(self.config)
        self.networks = self.config.model.build(timeline.corpora[0].vocab_size)
        self.tokenizer = Tokenizer.load(self.config.data.tokenizer)
        self.places = [Place(BASELINE, 0, 0.0)]
        self.places += [Place(f"step {step}", step, timeline.flops(step)) for step in self.steps]

    def measured(self, task: str) -> str:
        """Name what a task measures here, which is something else for averaged weights."""
        return task if self._average == 1 else f"{task}_average_{self._average}"

    def starts(self) -> dict[str, Start]:
        """Return what fine-tuning starts from: a shape for random weights, then the encoders."""
        starts: dict[str, Start] = {BASELINE: self.networks.discriminator}
        for place in self.places[1:]:
            starts[place.label] = kept_encoder(load_model(self.run, place.step, self._average)[0])
        return starts

    def models(self) -> Iterator[tuple[Place, PretrainingModel]]:
        """Yield the networks one by one on this process's device, the untrained ones first.

        The untrained ones are always the same.
        """
        device = compute_device()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            untrained = build_model(self.networks)
        yield self.places[0], untrained.to(device)
        for place in self.places[1:]:
            yield place, load_model(self.run, place.step, self._average)[0].to(device)

    def tracker(self) -> Tracker:
        """Open the tracker of the run, to add to what its training logged."""
        return add_to_run(
            self.run.path,
            experiment=self.config.tracking.experiment,
            run_name=self.run.name,
            tracking_uri=self.config.tracking.uri,
        )
