"""Exact parameter counts of networks that are not built: their shapes alone are made."""

from dataclasses import dataclass
from functools import lru_cache

from torch import nn

from convbert.models.architecture import EncoderConfig, PretrainingConfig
from convbert.models.encoder import Encoder
from convbert.models.pretraining import MaskedLanguageModel, build_model
from convbert.models.shapes import shapes_alone


@dataclass(frozen=True)
class EncoderCounts:
    """Parameters of one encoder; ``attention``, ``output`` and ``feedforward`` are of one layer.

    ``attention`` holds the projections into the block and the local operator, ``output`` the
    projection out of it with its layer norm.
    """

    total: int
    embeddings: int
    attention: int
    output: int
    feedforward: int

    @property
    def layer(self) -> int:
        """Parameters of one layer."""
        return self.attention + self.output + self.feedforward

    @property
    def body(self) -> int:
        """Everything but the embeddings."""
        return self.total - self.embeddings


@dataclass(frozen=True)
class ParameterCounts:
    """Parameters of a pretraining run; ``total`` counts each shared tensor once.

    ``encoder`` and ``head`` are the discriminator's, or those of the one network of masked
    language modeling, for which ``generator`` is None and ``generator_head`` 0. With tied
    encoders ``generator`` is None too.
    """

    total: int
    encoder: EncoderCounts
    head: int
    generator: EncoderCounts | None
    generator_head: int


@lru_cache
def parameter_counts(config: PretrainingConfig) -> ParameterCounts:
    """Return the exact parameters of a pretraining run, part by part."""
    with shapes_alone():
        model = build_model(config)
    total = _count(model)
    if isinstance(model, MaskedLanguageModel):
        return ParameterCounts(total, _of_encoder(model.encoder), _count(model.head), None, 0)
    return ParameterCounts(
        total,
        _of_encoder(model.discriminator),
        _count(model.discriminator_head),
        None if config.tie_encoders else _of_encoder(model.generator),
        _count(model.generator_head),
    )


def encoder_counts(config: EncoderConfig) -> EncoderCounts:
    """Return the parameters of one encoder, part by part."""
    with shapes_alone():
        return _of_encoder(Encoder(config))


def _of_encoder(encoder: Encoder) -> EncoderCounts:
    layer = encoder.layers[0]
    attention, feedforward = layer.get_submodule("attention"), layer.get_submodule("feedforward")
    output = _count(attention.get_submodule("out_proj")) + _count(attention.get_submodule("norm"))
    return EncoderCounts(
        total=_count(encoder),
        embeddings=_count(encoder.embeddings),
        attention=_count(attention) - output,
        output=output,
        feedforward=_count(feedforward),
    )


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
