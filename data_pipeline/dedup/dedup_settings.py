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
    bands: int = Field(14, ge=1, le=1000, description="groups of hashes of which one must be equal")
    rows: int = Field(8, ge=1, le=1000, description="hashes of a group")
    seed: int = Field(1, ge=0, lt=1 << 64, description="of the MinHash functions")


class DecontaminationConfig(StrictModel):
    """Which documents overlap an evaluation set."""

    files: list[str] = Field(default_factory=list, description="evaluation files, also as globs")
    ngram: int = Field(13, ge=2, le=1000, description="words that must be equal")
