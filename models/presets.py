"""The published model sizes, their baselines, and two sizes of our own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from convbert.models.config import EncoderConfig, LocalOp, Objective, PretrainingConfig
from convbert.models.errors import UserError


@dataclass(frozen=True)
class _Size:
    hidden_size: int
    embedding_size: int
    num_heads: int
    generator_size: Fraction
    num_layers: int = 12
    num_groups: int = 1
    local_op: LocalOp = "sdconv"
    objective: Objective = "rtd"


_SMALL = _Size(256, 128, 4, Fraction(1, 4))
_MEDIUM_SMALL = _Size(384, 128, 8, Fraction(1, 4), num_groups=2)
_BASE = _Size(768, 768, 12, Fraction(1, 3))
_LARGE = _Size(1024, 1024, 16, Fraction(1, 4), num_layers=24)
# Half-size generator: at a quarter its one head would no longer be exportable to transformers.
_TINY = _Size(128, 128, 4, Fraction(1, 2), num_layers=3)


def _electra(size: _Size) -> _Size:
    return replace(size, local_op="attention")


def _bert(size: _Size) -> _Size:
    return replace(size, local_op="attention", objective="mlm")


# ConvBERT (Jiang et al. 2020) publishes small, medium-small and base; ELECTRA (Clark et al. 2020)
# and BERT (Devlin et al. 2019) give the baselines. tiny and large are ours.
PRESETS: dict[str, _Size] = {
    "tiny": _TINY,
    "small": _SMALL,
    "medium-small": _MEDIUM_SMALL,
    "base": _BASE,
    "large": _LARGE,
    "electra-tiny": _electra(_TINY),
    "electra-small": _electra(_SMALL),
    "electra-base": _electra(_BASE),
    "electra-large": _electra(_LARGE),
    "bert-tiny": _bert(_TINY),
    "bert-small": _bert(_SMALL),
    "bert-base": _bert(_BASE),
    "bert-large": _bert(_LARGE),
}


def generator_of(
    discriminator: EncoderConfig, size: Fraction | float, *, tie_embeddings: bool = True
) -> EncoderConfig:
    """Return the generator that belongs to ``discriminator`` at the fraction ``size`` of its width.

    The published rule: the generator is a smaller copy with as many layers and the same local
    operator; hidden size, feed-forward size and heads (at least one) shrink by ``size``
    (ELECTRA, Clark et al. 2020, section 3.2, whose 0.33333 is read as 1/3). An untied generator has
    embeddings of its own width.
    """
    fraction = Fraction(size).limit_denominator(100)
    if not 0 < fraction <= 1:
        raise UserError(
            f"generator size {size} is not a fraction of the discriminator: use e.g. 1/4"
        )
    hidden_size = round(discriminator.hidden_size * fraction)
    smaller = {
        "hidden_size": hidden_size,
        "intermediate_size": round(discriminator.intermediate_size * fraction),
        "num_heads": max(1, int(discriminator.num_heads * fraction)),
    }
    if not tie_embeddings:
        smaller["embedding_size"] = hidden_size
    return EncoderConfig.model_validate(discriminator.model_dump() | smaller)


def preset(
    name: str,
    *,
    vocab_size: int = 30522,
    generator_size: Fraction | float | None = None,
    tie_embeddings: bool = True,
    tie_encoders: bool = False,
    objective: Objective | None = None,
    **overrides: Any,
) -> PretrainingConfig:
    """Return the networks of the published (or our own) size ``name``.

    ``overrides`` are fields of ``EncoderConfig`` and reach the generator too, through the
    published rule; ``generator_size`` replaces the size's own fraction (with ``tie_encoders`` it is
    1). The feed-forward size is four times the hidden size unless it is overridden. Raises
    ``UserError`` on an unknown name.
    """
    if name not in PRESETS:
        raise UserError(f"model size {name!r} is unknown: use one of {', '.join(PRESETS)}")
    size = PRESETS[name]
    fields: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": size.hidden_size,
        "embedding_size": size.embedding_size,
        "num_layers": size.num_layers,
        "num_heads": size.num_heads,
        "num_groups": size.num_groups,
        "local_op": size.local_op,
    }
    fields |= overrides
    fields.setdefault("intermediate_size", 4 * fields["hidden_size"])
    discriminator = EncoderConfig.model_validate(fields)
    objective = objective or size.objective
    if objective == "mlm":
        return PretrainingConfig(
            objective="mlm", discriminator=discriminator, tie_encoders=tie_encoders
        )
    default = Fraction(1) if tie_encoders else size.generator_size
    fraction = default if generator_size is None else generator_size
    generator = generator_of(discriminator, fraction, tie_embeddings=tie_embeddings)
    return PretrainingConfig(
        discriminator=discriminator,
        generator=generator,
        tie_embeddings=tie_embeddings,
        tie_encoders=tie_encoders,
    )
