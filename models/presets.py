"""The published model sizes, their baselines, and two sizes of our own."""

from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

from convbert.models.architecture import (
    EmbeddingTying,
    EncoderConfig,
    LocalOp,
    ObjectiveName,
    PretrainingConfig,
)
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
    objective: ObjectiveName = "rtd"


# ConvBERT (Jiang et al. 2020) publishes small, medium-small and base; tiny and large are ours.
_SIZES = {
    # Half-size generator: at a quarter its one head would no longer be exportable to transformers.
    "tiny": _Size(128, 128, 4, Fraction(1, 2), num_layers=3),
    "small": _Size(256, 128, 4, Fraction(1, 4)),
    "medium-small": _Size(384, 128, 8, Fraction(1, 4), num_groups=2),
    "base": _Size(768, 768, 12, Fraction(1, 3)),
    "large": _Size(1024, 1024, 16, Fraction(1, 4), num_layers=24),
}
_PLAIN = {name: replace(_SIZES[name], local_op="attention") for name in _SIZES if "-" not in name}

# ELECTRA (Clark et al. 2020) and BERT (Devlin et al. 2019) give the baselines.
PRESETS: dict[str, _Size] = {
    **_SIZES,
    **{f"electra-{name}": size for name, size in _PLAIN.items()},
    **{f"bert-{name}": replace(size, objective="mlm") for name, size in _PLAIN.items()},
}


def _fraction(what: str, value: Fraction | float) -> Fraction:
    try:
        fraction = Fraction(value).limit_denominator(100)
    except (ArithmeticError, TypeError, ValueError):
        fraction = Fraction(0)
    if not 0 < fraction <= 1:
        raise UserError(f"{what} {value} is not a fraction of the discriminator: use e.g. 1/4")
    return fraction


def generator_of(
    discriminator: EncoderConfig,
    size: Fraction | float,
    *,
    depth: Fraction | float = 1,
    tie_embeddings: EmbeddingTying = True,
) -> EncoderConfig:
    """Return the generator that belongs to ``discriminator`` at the fraction ``size`` of its width.

    The published rule: the generator is a smaller copy with as many layers and the same local
    operator; hidden size, feed-forward size and heads (at least one) shrink by ``size``
    (ELECTRA, Clark et al. 2020, section 3.2, whose 0.33333 is read as 1/3). ``depth`` is the share
    of the layers that it has, at least one (DeBERTaV3, He et al. 2021: half of them at full width).
    An untied generator has embeddings of its own width.
    """
    width, share = _fraction("generator size", size), _fraction("generator depth", depth)
    hidden_size = round(discriminator.hidden_size * width)
    smaller = {
        "hidden_size": hidden_size,
        "intermediate_size": round(discriminator.intermediate_size * width),
        "num_heads": max(1, int(discriminator.num_heads * width)),
        "num_layers": max(1, round(discriminator.num_layers * share)),
    }
    if not tie_embeddings:
        smaller["embedding_size"] = hidden_size
    return EncoderConfig.model_validate(discriminator.model_dump() | smaller)


def preset(
    name: str,
    *,
    vocab_size: int = 30522,
    generator_size: Fraction | float | None = None,
    generator_depth: Fraction | float = 1,
    tie_embeddings: EmbeddingTying = True,
    tie_encoders: bool = False,
    objective: ObjectiveName | None = None,
    **overrides: Any,
) -> PretrainingConfig:
    """Return the networks of the published (or our own) size ``name``.

    ``overrides`` are fields of ``EncoderConfig`` and reach the generator too, through the
    published rule; ``generator_size`` replaces the size's own fraction (with ``tie_encoders`` it is
    1) and ``generator_depth`` is the generator's share of the layers. The feed-forward size is four
    times the hidden size unless it is overridden. Raises ``UserError`` on an unknown name.
    """
    if name not in PRESETS:
        raise UserError(f"model size {name!r} is unknown: use one of {', '.join(PRESETS)}")
    size = PRESETS[name]
    own = {key: value for key, value in asdict(size).items() if key in EncoderConfig.model_fields}
    fields: dict[str, Any] = {"vocab_size": vocab_size, **own, **overrides}
    if isinstance(fields["hidden_size"], int):  # else it is refused
        fields.setdefault("intermediate_size", 4 * fields["hidden_size"])
    discriminator = EncoderConfig.model_validate(fields)
    objective = objective or size.objective
    if objective == "mlm":
        return PretrainingConfig(
            objective="mlm",
            discriminator=discriminator,
            tie_embeddings=tie_embeddings,
            tie_encoders=tie_encoders,
        )
    default = Fraction(1) if tie_encoders else size.generator_size
    fraction = default if generator_size is None else generator_size
    generator = generator_of(
        discriminator, fraction, depth=generator_depth, tie_embeddings=tie_embeddings
    )
    return PretrainingConfig(
        objective=objective,
        discriminator=discriminator,
        generator=generator,
        tie_embeddings=tie_embeddings,
        tie_encoders=tie_encoders,
    )
