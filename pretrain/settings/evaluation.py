"""Settings of the measures taken during training, importable without PyTorch."""

from typing import Literal, Self

from pydantic import Field, model_validator

from convbert.data_pipeline.readers import ReaderOptions
from convbert.models.schema import StrictModel
from convbert.pretrain.settings.places import Change

Corruption = Literal["swap", "delete", "replace", "shuffle"]
Score = Literal["discriminator", "pll"]


class PairsConfig(StrictModel):
    """Minimal pairs: a real sentence and the same one with a fault; which does the model prefer."""

    inputs: tuple[str, ...] = Field(
        min_length=1,
        description="held-out text, or one file of good and bad sentences",
        examples=[["held-out.jsonl"]],
    )
    corruptions: tuple[Corruption, ...] = Field(
        ("swap",),
        min_length=1,
        description="how a sentence of a text is spoilt",
        examples=[["swap", "replace"]],
    )
    count: int = Field(10_000, gt=0, description="pairs of each corruption")
    score: Score | None = Field(
        None, description="default: the discriminator's, or PLL where there is none"
    )
    seed: int = Field(
        0,
        ge=0,
        description="number that decides which sentences are taken and where their fault is",
    )
    reader: ReaderOptions = ReaderOptions()

    @model_validator(mode="after")
    def _once(self) -> Self:
        # Pairs that are there twice would make the error of their share smaller.
        if len(set(self.corruptions)) < len(self.corruptions):
            raise ValueError(f"corruptions: {', '.join(self.corruptions)} name one twice")
        return self

    def placed(self, change: Change) -> "PairsConfig":
        """Return the same settings with the places of their files changed."""
        return self.model_copy(update={"inputs": tuple(map(change, self.inputs))})


class EvaluationConfig(StrictModel):
    """What is measured at every checkpoint, and what is looked at when the run ends."""

    held_out: str | None = Field(
        None,
        description="path or URL of a manifest of text that is not trained on; null for none",
        examples=["parts/part-1/manifest.json"],
    )
    sequences: int = Field(1024, gt=0, description="how many of its sequences are read")
    batch: int = Field(32, gt=0, description="sequences at once; does not change the result")
    pairs: PairsConfig | None = Field(None, description="minimal pairs; null for none")
    show: tuple[str, ...] | None = Field(
        None,
        description="texts, e.g. ['A good [MASK].'], of the page made when the run ends; null: "
        "sentences of its held-out text or else its shards; []: no page",
        examples=[["A good [MASK]."]],
    )

    def placed(self, change: Change) -> "EvaluationConfig":
        """Return the same settings with the places of held-out text changed."""
        return self.model_copy(
            update={
                "held_out": self.held_out and change(self.held_out),
                "pairs": self.pairs and self.pairs.placed(change),
            }
        )
