"""What looks at texts found, as records: written by who trains or shows, read without torch."""

from convbert.data_pipeline.tokenizer.settings import PIECES
from convbert.models.schema import StrictModel

MASK = PIECES["mask"]
"""How a text spells a mask, whatever the tokenizer's own is called."""


class Filling(StrictModel):
    """A token that the generator proposes for a mask."""

    word: str
    piece: str
    probability: float


class Verdict(StrictModel):
    """A token as the discriminator read it.

    ``masked`` says that the generator chose it; ``original`` is the word of the text there, and
    ``changed`` whether it was another token. Both are null where the text has a mask.
    """

    word: str
    piece: str
    masked: bool
    original: str | None
    changed: bool | None
    replaced: float


class Look(StrictModel):
    """What one model makes of one text.

    ``fillings`` holds a list for each mask. ``verdicts`` is empty for a model without
    discriminator, None where none was asked for. ``left_out`` counts the tokens beyond the
    ``limit`` that the model reads.
    """

    fillings: list[list[Filling]]
    verdicts: list[Verdict] | None
    tokens: int
    left_out: int
    limit: int


class Sample(StrictModel):
    """A text to look at; ``answer`` is the word behind its mask, where that is known."""

    text: str
    answer: str | None = None


class Point(StrictModel):
    """One model: its look at each text. An export does not know its step and training FLOPs."""

    label: str
    step: int | None
    flops: float | None
    looks: list[Look]


class Series(StrictModel):
    """Models in the order of their training, and the texts that all of them read."""

    source: str
    samples: list[Sample]
    share: float
    seed: int
    points: list[Point]
