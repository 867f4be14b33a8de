"""From what a user names, a run or a model and texts, to looks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from convbert.models.errors import UserError
from convbert.pretrain.exchange.run_models import RunModels, find_run, require_fitting
from convbert.pretrain.exchange.trained_model import require_steps
from convbert.pretrain.run.checkpoint_manifest import checkpoint_steps
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.show.look import Options
from convbert.pretrain.show.records import Sample, Series
from convbert.pretrain.show.samples import samples_of
from convbert.pretrain.show.series import show_directory, show_run


@dataclass(frozen=True)
class Request:
    """A run, one of its checkpoints or a Hugging Face directory, and what to show of it.

    ``texts`` may be empty for a run. ``step`` is the checkpoint to show first, by default the
    newest; the others of the run are looked at only with ``every``.
    """

    source: Path
    texts: Sequence[str]
    step: int | None
    tokenizer: Path | None
    every: bool


def answer(request: Request, options: Options, device: torch.device) -> tuple[Series, int]:
    """Return the looks, and the number of the point that was asked for.

    Raises ``UserError`` for what is not there, and for options that the source does not take.
    """
    samples = [Sample(text=text) for text in request.texts]
    found = find_run(request.source)
    require_fitting(request.source, found, step=request.step, tokenizer=request.tokenizer)
    if found is not None:
        return _answer_run(request, found, samples, options, device)
    if not samples:
        raise UserError(f"{request.source}: is no run with data of its own; give a TEXT")
    series = show_directory(request.source, request.tokenizer, samples, options, device)
    return series, 0


def _answer_run(
    request: Request,
    found: tuple[RunDirectory, list[int]],
    samples: list[Sample],
    options: Options,
    device: torch.device,
) -> tuple[Series, int]:
    models, first = chosen_models(request, found)
    samples = samples or samples_of(models.config, models.tokenizer)
    if not samples:
        raise UserError(f"{models.run.path}: its data give no sentence to show; give a TEXT")
    return show_run(models, samples, options, device), models.steps.index(first)


def chosen_models(request: Request, found: tuple[RunDirectory, list[int]]) -> tuple[RunModels, int]:
    """Return the checkpoints of a run that are looked at, and the step of the one shown first."""
    run, named = found
    present = checkpoint_steps(run.checkpoints)
    chosen = [request.step] if request.step is not None else named or present[-1:]
    require_steps(run, chosen)
    models = RunModels(run, present if request.every else chosen)
    return models, chosen[0]
