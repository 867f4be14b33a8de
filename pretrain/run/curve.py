"""The curve this project is about, as a file: a measure against pretraining FLOPs."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from pydantic import ConfigDict, ValidationError

from convbert.data_pipeline.atomic import atomic_write
from convbert.models.schema import StrictModel

REPORT = "report"
"""Folder in a run directory that holds its curves, one folder for each task."""
FILE_NAME = "curve.json"


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


def forget_after(folder: Path, step: int) -> None:
    """Drop from the curves in a run's report what was measured of checkpoints after ``step``.

    They are trained again. What is no curve is left for the report, which names it.
    """
    for path in folder.glob(f"*/{FILE_NAME}"):
        try:
            curve = Curve.model_validate_json(path.read_bytes())
        except ValidationError:
            continue
        kept = [point for point in curve.points if point.step <= step]
        if not kept:
            path.unlink()
        elif len(kept) < len(curve.points):
            with atomic_write(path) as file:
                file.write(
                    curve.model_copy(update={"points": kept}).model_dump_json(indent=2).encode()
                )
