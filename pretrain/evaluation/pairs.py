"""Minimal pairs on the checkpoints of a run, or on a Hugging Face directory: no labels needed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convbert.data_pipeline.atomic import atomic_write
from convbert.data_pipeline.readers import ReaderOptions, iter_documents
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import UserError
from convbert.models.interop.hf import load_pretraining_model
from convbert.pretrain.evaluation.evaluated_run import EvaluatedRun, StartingPoint
from convbert.pretrain.finetune.device import compute_device
from convbert.pretrain.pairs.corruption import Corruption, make_pairs
from convbert.pretrain.pairs.files import is_pairs_file, read_pairs
from convbert.pretrain.pairs.measure import EncodedPairs, Preference, measure
from convbert.pretrain.pairs.pair import Pair
from convbert.pretrain.pairs.scores import Model, Score, scores_of
from convbert.pretrain.run.metric_names import pairs_measure

Found = list[tuple[StartingPoint, list[Preference]]]
FILE_NAME = "pairs.json"


@dataclass(frozen=True)
class Scoring:
    """Which scores are taken; the cheapest that the model gives if none is named."""

    scores: tuple[Score, ...] = ()
    per_token: bool = False

    def of(self, model: Model) -> tuple[Score, ...]:
        """Return the scores for a model; raises ``UserError`` where it cannot give one."""
        able = scores_of(model)
        unable = [score for score in self.scores if score not in able]
        if unable:
            raise UserError(f"--score {unable[0]}: this model gives {', '.join(able)} only")
        return self.scores or able[:1]


def gather(
    inputs: Sequence[str],
    corruptions: Sequence[Corruption],
    count: int,
    options: ReaderOptions,
    *,
    seed: int = 0,
) -> tuple[list[Pair], list[str]]:
    """Read pairs from a file of pairs, or make ``count`` of each kind from text.

    Returns them with what a person should know of them. Raises ``UserError`` for unusable input.
    """
    path = Path(inputs[0])
    if len(inputs) == 1 and path.is_file() and is_pairs_file(path):
        pairs, alone = read_pairs(path)
        return pairs, [f"{path}: {alone} sentences belong to no pair"] if alone else []
    found: list[Pair] = []
    notes = []
    for corruption in corruptions:
        made = make_pairs(iter_documents(list(inputs), options), corruption, count, seed=seed)
        if len(made) < count:
            notes.append(f"{corruption}: the text gives {len(made):,} pairs, not {count:,}")
        found += made
    return found, notes


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
                    pairs_measure(p.kind, p.score),
                    p.accuracy,
                    step=point.step,
                    standard_error=p.standard_error,
                    pairs=p.pairs,
                )
        tracker.artifact(_write(evaluated.run.report / "pairs", found))
    return found


def evaluate_directory(
    directory: Path, tokenizer: Path | None, pairs: Sequence[Pair], scoring: Scoring
) -> Found:
    """Measure the networks in a Hugging Face directory."""
    model = load_pretraining_model(directory).to(compute_device())
    words = Tokenizer.load(tokenizer or directory)
    encoded = EncodedPairs(pairs, words, model.config.discriminator.max_positions)
    name = directory.resolve().name
    return [(StartingPoint(name, 0, 0.0), _measured(model, encoded, words, scoring))]


def _measured(
    model: Model, encoded: EncodedPairs, tokenizer: Tokenizer, scoring: Scoring
) -> list[Preference]:
    return [
        preference
        for score in scoring.of(model)
        for preference in measure(model, encoded, tokenizer, score, per_token=scoring.per_token)
    ]


def _write(folder: Path, found: Found) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    content = [
        {
            "start": place.label,
            "step": place.step,
            "flops": place.flops,
            "preferences": [p.model_dump() for p in preferences],
        }
        for place, preferences in found
    ]
    path = folder / FILE_NAME
    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=1).encode() + b"\n")
    return path
