"""Minimal pairs on the checkpoints of a run, or on a Hugging Face directory: no labels needed."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from convbert.data_pipeline.atomic import atomic_write
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.architecture import PretrainingConfig
from convbert.models.encoder import Encoder
from convbert.models.errors import UserError
from convbert.models.interop.hf import load_networks
from convbert.models.pretraining import PretrainingModel
from convbert.pretrain.evaluation.evaluated_run import EvaluatedRun, StartingPoint
from convbert.pretrain.finetune.device import compute_device
from convbert.pretrain.pairs.measure import EncodedPairs, Preference, measure
from convbert.pretrain.pairs.pair import Pair
from convbert.pretrain.pairs.scores import Model
from convbert.pretrain.run.metric_names import pairs_measure
from convbert.pretrain.settings.evaluation import Score

Found = list[tuple[StartingPoint, list[Preference]]]
FILE_NAME = "pairs.json"


@dataclass(frozen=True)
class Scoring:
    """Which scores are taken; ``report`` is called with shares of a starting point's work."""

    scores: tuple[Score, ...]
    per_token: bool = False
    report: Callable[[float], None] = lambda share: None


def evaluate_run(evaluated: EvaluatedRun, pairs: Sequence[Pair], scoring: Scoring) -> Found:
    """Measure every checkpoint and the untrained model; log the points of the curves.

    Writes ``report/pairs/pairs.json`` in the run directory.
    """
    longest = evaluated.networks.discriminator.max_positions
    encoded = EncodedPairs(pairs, evaluated.tokenizer, longest)
    found: Found = []
    with evaluated.tracker() as tracker:
        for point, model in evaluated.models():
            preferences = _measured(model, encoded, evaluated.tokenizer, scoring)
            found.append((point, preferences))
            for p in preferences:
                tracker.curve_point(
                    point.flops,
                    pairs_measure(p.kind, p.score, per_token=scoring.per_token),
                    p.accuracy,
                    step=point.step,
                    standard_error=p.standard_error,
                    pairs=p.pairs,
                )
        tracker.artifact(_write(evaluated.run.report / "pairs", found, scoring))
    return found


@dataclass(frozen=True)
class SingleModel:
    """The networks of a Hugging Face directory, and their tokenizer."""

    name: str
    model: PretrainingModel
    tokenizer: Tokenizer

    @property
    def networks(self) -> PretrainingConfig:
        """What the networks are."""
        return self.model.config


def open_directory(directory: Path, tokenizer: Path | None) -> SingleModel:
    """Read the networks in a directory, and what turns text into their ids.

    Raises ``UserError`` for an encoder alone, which scores nothing, and for another's tokenizer.
    """
    model = load_networks(directory)
    if isinstance(model, Encoder):
        raise UserError(
            f"{directory}: an encoder alone, nothing in it scores sentences; measure the run it "
            "was exported from, or a model with its generator"
        )
    words, known = Tokenizer.load(tokenizer or directory), model.config.discriminator.vocab_size
    if words.vocab_size > known:
        raise UserError(
            f"{words.file}: {words.vocab_size:,} ids, the model in {directory} knows {known:,}; "
            "give its own tokenizer with --tokenizer"
        )
    return SingleModel(directory.resolve().name, model.to(compute_device()), words)


def evaluate_directory(opened: SingleModel, pairs: Sequence[Pair], scoring: Scoring) -> Found:
    """Measure the networks of a directory."""
    model, words = opened.model, opened.tokenizer
    encoded = EncodedPairs(pairs, words, model.config.discriminator.max_positions)
    return [(StartingPoint(opened.name, 0, 0.0), _measured(model, encoded, words, scoring))]


def _measured(
    model: Model, encoded: EncodedPairs, tokenizer: Tokenizer, scoring: Scoring
) -> list[Preference]:
    def report(share: float) -> None:
        scoring.report(share / len(scoring.scores))

    found: list[Preference] = []
    for score in scoring.scores:
        found += measure(
            model, encoded, tokenizer, score, per_token=scoring.per_token, report=report
        )
    return found


def _write(folder: Path, found: Found, scoring: Scoring) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    content = [
        {
            "start": place.label,
            "step": place.step,
            "flops": place.flops,
            "per_token": scoring.per_token,
            "preferences": [p.model_dump() for p in preferences],
        }
        for place, preferences in found
    ]
    path = folder / FILE_NAME
    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=1).encode() + b"\n")
    return path
