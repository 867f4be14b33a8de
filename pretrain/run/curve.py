"""The curve this project is about, as a file: a measure against pretraining FLOPs."""

import math
import statistics
from collections.abc import Sequence

from pydantic import ConfigDict

from convbert.models.schema import StrictModel


class Spread(StrictModel):
    """One measure over several seeds; NaN, written ``"NaN"``, where it is undefined."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    median: float
    low: float
    high: float
    scores: list[float]

    @classmethod
    def of(cls, scores: Sequence[float]) -> "Spread":
        """Summarize scores, given in the order of their seeds; undefined if one of them is."""
        if any(math.isnan(score) for score in scores):
            return cls(median=math.nan, low=math.nan, high=math.nan, scores=list(scores))
        return cls(
            median=statistics.median(scores), low=min(scores), high=max(scores), scores=list(scores)
        )

    @property
    def defined(self) -> bool:
        """Whether the measure has a value."""
        return math.isfinite(self.median)


class Point(StrictModel):
    """A checkpoint: its cumulative training FLOPs and what fine-tuning it gave."""

    step: int
    flops: float
    spread: Spread


class Level(StrictModel):
    """What something else than the run's checkpoints gives, such as a baseline without a network.

    Its scores are those of different training rows.
    """

    name: str
    spread: Spread


class Curve(StrictModel):
    """One run on one task; ``baseline`` is the same model fine-tuned from random weights.

    ``lexical`` is what a task's words give away without a network, where that was measured.
    """

    run: str
    task: str
    metric: str
    baseline: Spread
    points: list[Point]
    lexical: Level | None = None
