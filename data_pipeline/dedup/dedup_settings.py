"""Settings of deduplication and decontamination."""

from typing import Literal

from pydantic import Field

from convbert.models.schema import StrictModel


class DedupConfig(StrictModel):
    """Which documents count as copies.

    The probability that two documents of Jaccard similarity s meet is ``1 - (1 - s**rows)**bands``:
    with the defaults 0.05 at 0.5, 0.56 at 0.7, 0.92 at 0.8 and 0.9996 at 0.9.
    """

    mode: Literal["off", "exact", "near"] = Field(
        "near", description="exact: equal words; near: also MinHash of word n-grams"
    )
    ngram: int = Field(5, ge=1, le=1000, description="words of a shingle")
    bands: int = Field(
        14,
        ge=1,
        le=1000,
        description="number of groups of hashes; one equal group makes two documents candidates",
    )
    rows: int = Field(8, ge=1, le=1000, description="number of hashes in a group")
    seed: int = Field(
        1, ge=0, lt=1 << 64, description="number that the MinHash functions follow from"
    )


class DecontaminationConfig(StrictModel):
    """Which documents overlap an evaluation set."""

    files: list[str] = Field(
        default_factory=list,
        description="evaluation files, also as globs",
        examples=[["my-task/dev.csv"]],
    )
    ngram: int = Field(13, ge=2, le=1000, description="words that must be equal")
