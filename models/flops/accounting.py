"""The two conventions that turn work into one number."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from convbert.models.config import EncoderConfig, PretrainingConfig
from convbert.models.flops.work import (
    Work,
    discriminator_head_work,
    encoder_work,
    masked_lm_head_work,
)

Convention = Literal["electra", "hardware"]
Head = Literal["none", "discriminator", "masked_lm"]


@dataclass(frozen=True)
class _Rules:
    """``passes``: what forward and backward cost together, in forward passes."""

    count: Callable[[Work], float]
    passes: int
    masked_positions: Callable[[int], float]


def _papers_masked_positions(seq_len: int) -> float:
    """ELECTRA's script takes 20 of every 128 positions."""
    return seq_len * 20 / 128


def _real_masked_positions(seq_len: int) -> float:
    """The slots that masking 15 % of a row reserves: 19 of 128, 79 of 512."""
    return max(1, int(0.155 * seq_len))


_CONVENTIONS = {
    "electra": _Rules(
        count=lambda work: work.products + work.one_hot + work.elementwise,
        passes=2,
        masked_positions=_papers_masked_positions,
    ),
    "hardware": _Rules(
        count=lambda work: work.products,
        passes=3,
        masked_positions=_real_masked_positions,
    ),
}


def _head_work(head: Head, config: EncoderConfig, seq_len: int, masked_positions: float) -> Work:
    heads: dict[Head, Callable[[], Work]] = {
        "none": Work,
        "discriminator": partial(discriminator_head_work, config, seq_len),
        "masked_lm": partial(masked_lm_head_work, config, masked_positions),
    }
    return heads[head]()


def forward_flops(
    config: EncoderConfig,
    seq_len: int,
    *,
    head: Head = "none",
    convention: Convention = "electra",
    masked_positions: float | None = None,
) -> float:
    """Return the operations of one forward pass of an encoder and a head over one sequence.

    ``masked_positions`` is how many positions the ``masked_lm`` head predicts; left out, it is
    the convention's own: 15.625 % of the row in the papers, the slots that masking 15 % of a row
    reserves in the hardware count. Padding counts like text, as the hardware computes it too.
    """
    rules = _CONVENTIONS[convention]
    if masked_positions is None:
        masked_positions = rules.masked_positions(seq_len)
    body = sum(encoder_work(config, seq_len).values(), Work())
    return rules.count(body + _head_work(head, config, seq_len, masked_positions))


def training_flops_per_sequence(
    config: PretrainingConfig,
    seq_len: int,
    convention: Convention = "electra",
    masked_positions: float | None = None,
) -> float:
    """Return the operations of training on one sequence, over all networks, without the optimizer.

    Multiply by batch size and number of updates for a whole run. The hardware count is that of
    the model: activations recomputed to save memory are not counted a second time.
    """
    forward = partial(
        forward_flops, seq_len=seq_len, convention=convention, masked_positions=masked_positions
    )
    passes = _CONVENTIONS[convention].passes
    if config.generator is None:
        return passes * forward(config.discriminator, head="masked_lm")
    generator = forward(config.generator, head="masked_lm")
    return passes * (generator + forward(config.discriminator, head="discriminator"))
