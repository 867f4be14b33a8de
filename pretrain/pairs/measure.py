"""How often a model prefers the good sentence of a pair."""

import logging
import math
from collections.abc import Callable, Sequence

from pydantic import Field

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import UserError
from convbert.models.schema import StrictModel
from convbert.pretrain.pairs.pair import Pair
from convbert.pretrain.pairs.scores import Model, score_rows
from convbert.pretrain.settings.evaluation import Score

log = logging.getLogger(__name__)


class Preference(StrictModel):
    """Share of pairs of one kind whose good sentence scores higher; a tie counts half."""

    kind: str
    score: Score
    accuracy: float
    standard_error: float = Field(description="of the accuracy, from the number of pairs alone")
    pairs: int
    left_out: int = Field(description="pairs that are longer than the model reads")


class EncodedPairs:
    """Pairs as rows of ids: good and bad in turn, with those that are too long left out."""

    def __init__(self, pairs: Sequence[Pair], tokenizer: Tokenizer, max_length: int) -> None:
        """Encode with [CLS] and [SEP]; raises ``UserError`` where every pair is too long."""
        texts = [text for pair in pairs for text in (pair.good, pair.bad)]
        rows = [[tokenizer.cls_id, *ids, tokenizer.sep_id] for ids in tokenizer.encode_batch(texts)]
        both = [(rows[2 * n], rows[2 * n + 1]) for n in range(len(pairs))]
        kept = [n for n, (a, b) in enumerate(both) if max(len(a), len(b)) <= max_length]
        if pairs and not kept:
            raise UserError(f"pairs: all {len(pairs)} are longer than {max_length} tokens")
        if left := len(pairs) - len(kept):
            log.warning(
                f"pairs: {left:,} of {len(pairs):,} are left out, longer than {max_length} tokens"
            )
        self.kinds = [pairs[n].kind for n in kept]
        self.rows = [row for n in kept for row in both[n]]
        self.lost = {
            kind: sum(p.kind == kind for p in pairs) - self.kinds.count(kind)
            for kind in dict.fromkeys(p.kind for p in pairs)
        }


def measure(
    model: Model,
    encoded: EncodedPairs,
    tokenizer: Tokenizer,
    score: Score,
    *,
    per_token: bool,
    together: bool = False,
    report: Callable[[float], None] = lambda share: None,
) -> list[Preference]:
    """Return the preferences of a model for each kind of pair.

    ``per_token`` divides a score by the tokens of its sentence; without it, a longer sentence is
    the less likely one. Pairs in which something is deleted are always compared per token.
    ``together`` and ``report`` are those of ``score_rows``.
    """
    values = score_rows(model, score, encoded.rows, tokenizer, together=together, report=report)
    for number, row in enumerate(encoded.rows):
        if per_token or encoded.kinds[number // 2] == "delete":
            values[number] /= max(1, len(row) - 2)
    points: dict[str, list[float]] = {kind: [] for kind in encoded.lost}
    for number, kind in enumerate(encoded.kinds):
        good, bad = values[2 * number], values[2 * number + 1]
        points[kind].append(0.5 if good == bad else float(good > bad))
    return [
        _preference(kind, score, found, encoded.lost[kind])
        for kind, found in points.items()
        if found
    ]


def _preference(kind: str, score: Score, points: Sequence[float], lost: int) -> Preference:
    accuracy = sum(points) / len(points)
    error = math.sqrt(accuracy * (1 - accuracy) / len(points))
    return Preference(
        kind=kind,
        score=score,
        accuracy=accuracy,
        standard_error=error,
        pairs=len(points),
        left_out=lost,
    )
