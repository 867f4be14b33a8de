"""What is said of a look, in the same words on the terminal and on the page."""

from typing import TYPE_CHECKING

from convbert.pretrain.show.records import MASK, Look, Point, Verdict

if TYPE_CHECKING:  # it takes torch
    from convbert.pretrain.exchange.run_models import StartingPoint

SUSPECTED = 0.5
"""The probability from which a token counts as found to be replaced."""


def position(point: "Point | StartingPoint") -> str:
    """Name a model by its place in the training."""
    return point.label if point.flops is None else f"{point.label}, {point.flops:.2e} FLOPs"


def origin(verdict: Verdict) -> str:
    """Return what stood in the text where the generator drew a token, ``=`` for the same."""
    if not verdict.masked:
        return ""
    if verdict.original is None:
        return MASK
    return verdict.original if verdict.changed else "="


def remarks(look: Look) -> list[str]:
    """Say what was cut, and how many of the replaced tokens were found."""
    said = []
    if look.left_out:
        said.append(
            f"{look.tokens + look.left_out} tokens; the model reads {look.limit} with [CLS] and "
            f"[SEP]: the last {look.left_out} are left out"
        )
    if look.verdicts == []:
        said.append("This model has no discriminator: it fills masks only.")
    drawn = [verdict for verdict in look.verdicts or () if verdict.changed]
    others = [verdict for verdict in look.verdicts or () if verdict.changed is False]
    if drawn:
        said.append(
            f"replaced tokens found: {_suspected(drawn)} of {len(drawn)}; "
            f"others suspected: {_suspected(others)} of {len(others)}"
        )
    return said


def _suspected(verdicts: list[Verdict]) -> int:
    return sum(verdict.replaced >= SUSPECTED for verdict in verdicts)
