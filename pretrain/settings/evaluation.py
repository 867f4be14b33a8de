"""Settings of the measures taken during training, importable without PyTorch."""

from pydantic import Field

from convbert.models.schema import StrictModel


class EvaluationConfig(StrictModel):
    """What is measured at every checkpoint, and what is looked at when the run ends."""

    held_out: str | None = Field(
        None, description="path or URL of a manifest of text that is not trained on; null for none"
    )
    sequences: int = Field(1024, gt=0, description="how many of its sequences are read")
    batch: int = Field(32, gt=0, description="sequences at once; does not change the result")
    show: tuple[str, ...] | None = Field(
        None,
        description="texts, e.g. ['A good [MASK].'], of the page made when the run ends; null: "
        "sentences of its held-out text or else its shards; []: no page",
    )
