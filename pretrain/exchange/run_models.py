"""A run's checkpoints as networks, with the training FLOPs they cost, and what a path names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import AbsentError, UserError
from convbert.models.interop.hf_config import CONFIG_FILE
from convbert.models.pretraining import PretrainingModel, build_model
from convbert.pretrain.exchange.trained_model import load_model, require_steps
from convbert.pretrain.run.checkpoint_manifest import checkpoint_step, checkpoint_steps
from convbert.pretrain.run.checks import require_tokenizer
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.run.timeline import Timeline
from convbert.pretrain.settings.run import RunConfig

BASELINE = "from random weights"


@dataclass(frozen=True)
class StartingPoint:
    """Weights that are evaluated: name, step, and training FLOPs in the papers' convention."""

    label: str
    step: int
    flops: float


def find_run(source: Path) -> tuple[RunDirectory, list[int]] | None:
    """Return the run that ``source`` is, or is a checkpoint of, and the steps that it names.

    No step for a run, one for a checkpoint; None for a directory in Hugging Face format. Raises
    ``AbsentError`` for anything else.
    """
    if (source / CONFIG_FILE).is_file():
        return None
    place = source.resolve()
    step = checkpoint_step(place)
    run = RunDirectory(source if step is None else place.parent.parent)
    if not run.config_file.is_file():
        raise AbsentError(
            f"{source}: neither a run directory (config.yaml), nor a checkpoint in one "
            f"(checkpoints/step-N), nor a Hugging Face model ({CONFIG_FILE}); check the path"
        )
    return run, [] if step is None else [step]


def tokenizer_of(config: RunConfig, timeline: Timeline) -> Tokenizer:
    """Return the tokenizer of a run; raises ``UserError`` where another one lies in its place."""
    tokenizer = Tokenizer.load(config.data.tokenizer)
    require_tokenizer(config, tokenizer.digest, timeline, "put that one there")
    return tokenizer


def require_fitting(
    source: Path, found: tuple[RunDirectory, list[int]] | None, **options: object
) -> None:
    """Raise ``UserError`` for an option that is given and has no meaning for ``source``.

    ``found`` is what ``find_run`` returns of it. A run has a tokenizer and a place for results of
    its own, a model no steps.
    """
    strange: tuple[str, ...] = ("tokenizer", "output")
    kind = "is a run, which has its own"
    if found is None:
        strange, kind = ("step", "average"), "is one model"
    elif found[1]:
        strange, kind = ("step", *strange), "is a checkpoint of a run"
    for name in strange:
        if given := options.get(name):
            shown = given[0] if isinstance(given, list) else given
            raise UserError(f"--{name} {shown}: {source} {kind}; leave it out")


class RunModels:
    """Chosen checkpoints of one run, and the same model before any training."""

    def __init__(self, run: RunDirectory, steps: Sequence[int] = (), average: int = 1) -> None:
        """Choose ``steps``, by default all; raises ``AbsentError`` where there are too few.

        The weights of ``average`` checkpoints up to each step are averaged.
        """
        self._average = average
        self.run = run
        self.config = run.open()
        present = checkpoint_steps(run.checkpoints)
        require_steps(run, steps)
        self.steps = sorted(set(steps)) or present[average - 1 :]
        if not self.steps:
            remedy = "keep more (checkpoint.keep_last)" if present else "train the run first"
            raise AbsentError(
                f"{run.checkpoints}: {len(present)} checkpoints, {average} are needed; {remedy}"
            )
        self.timeline = Timeline.load(self.config)
        self.networks = self.config.model.build(self.timeline.corpora[0].vocab_size)
        self.tokenizer = tokenizer_of(self.config, self.timeline)
        self.points = [StartingPoint(BASELINE, 0, 0.0)]
        self.points += [StartingPoint(f"step {s}", s, self.timeline.flops(s)) for s in self.steps]

    def untrained(self) -> PretrainingModel:
        """Return the networks before any training, which are always the same."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return build_model(self.networks)

    def trained(self, step: int) -> PretrainingModel:
        """Return the networks of a checkpoint, in fp32 on the CPU."""
        return load_model(self.run, step, self._average)[0]
