"""Looks at texts through one model after the other: the checkpoints of a run, or an export."""

from collections.abc import Sequence
from pathlib import Path

import torch

from convbert.models.encoder import Encoder
from convbert.models.errors import UserError
from convbert.models.interop.hf import load_networks
from convbert.models.pretraining import PretrainingModel, kept_encoder
from convbert.pretrain.exchange.run_models import RunModels
from convbert.pretrain.show.look import Options, look
from convbert.pretrain.show.reader import Reader
from convbert.pretrain.show.records import Look, Point, Sample, Series


def show_run(
    models: RunModels, samples: Sequence[Sample], options: Options, device: torch.device
) -> Series:
    """Look through the chosen checkpoints of a run, at as many tokens as they were trained on."""
    reader = Reader.of(models.tokenizer)
    points = []
    for start in models.points[1:]:
        model = models.trained(start.step).to(device)
        limit = models.timeline.at(start.step - 1).seq_len
        looks = _looks(model, reader, samples, limit, options)
        points.append(Point(label=start.label, step=start.step, flops=start.flops, looks=looks))
    return _series(models.run.name, samples, options, points)


def show_directory(
    directory: Path,
    tokenizer: Path | None,
    samples: Sequence[Sample],
    options: Options,
    device: torch.device,
) -> Series:
    """Look through the networks in a Hugging Face directory, at as many tokens as they read.

    Raises ``UserError`` for an encoder that has neither a generator nor a masked-LM head.
    """
    reader = Reader.open(tokenizer or directory)
    model = load_networks(directory)
    if isinstance(model, Encoder):
        raise UserError(
            f"{directory}: an encoder alone, nothing in it fills masks; show the run it was "
            "exported from, or a model with its generator"
        )
    model = model.to(device)
    limit = kept_encoder(model).config.max_positions
    name = directory.resolve().name
    looks = _looks(model, reader, samples, limit, options)
    point = Point(label=name, step=None, flops=None, looks=looks)
    return _series(name, samples, options, [point])


def _looks(
    model: PretrainingModel,
    reader: Reader,
    samples: Sequence[Sample],
    limit: int,
    options: Options,
) -> list[Look]:
    return [look(model, reader, sample.text, limit, options) for sample in samples]


def _series(
    source: str, samples: Sequence[Sample], options: Options, points: list[Point]
) -> Series:
    return Series(
        source=source,
        samples=list(samples),
        share=options.share,
        seed=options.seed,
        points=points,
    )
