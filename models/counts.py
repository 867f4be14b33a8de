"""Exact parameter counts in closed form, so that a run can be planned without building it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from convbert.models.config import EncoderConfig, PretrainingConfig


@dataclass(frozen=True)
class EncoderCounts:
    """Parameters of one encoder; ``attention``, ``output`` and ``feedforward`` are of one layer.

    ``attention`` holds the projections into the block and the local operator, ``output`` the
    projection out of it with its layer norm. ``project`` maps embeddings to the hidden size.
    """

    embeddings: int
    project: int
    attention: int
    output: int
    feedforward: int
    num_layers: int

    @property
    def layer(self) -> int:
        """Parameters of one layer."""
        return self.attention + self.output + self.feedforward

    @property
    def body(self) -> int:
        """Everything but the embeddings."""
        return self.project + self.num_layers * self.layer

    @property
    def total(self) -> int:
        """The encoder as it is exported."""
        return self.embeddings + self.body


@dataclass(frozen=True)
class ParameterCounts:
    """Parameters of a pretraining run, each shared tensor counted once.

    ``encoder`` and ``head`` are the discriminator's, or those of the one network of masked
    language modelling, for which ``generator`` is None and ``generator_head`` 0. With tied
    encoders ``generator`` is None too.
    """

    encoder: EncoderCounts
    head: int
    generator: EncoderCounts | None
    generator_head: int
    tied: bool

    @property
    def total(self) -> int:
        """All parameters that the optimizer sees."""
        count = self.encoder.total + self.head + self.generator_head
        if self.generator is not None:
            count += self.generator.body if self.tied else self.generator.total
        return count


def _linear(rows: int, columns: int, groups: int = 1) -> int:
    return rows * columns // groups + columns


def _span_dynamic(config: EncoderConfig) -> int:
    d, a, K = config.hidden_size, config.bottleneck, config.conv_kernel_size
    span_key = d * K + _linear(d, a)
    return span_key + _dynamic(config)


def _dynamic(config: EncoderConfig) -> int:
    kernel = _linear(config.bottleneck, config.local_heads * config.conv_kernel_size)
    return kernel + _local_value(config)


def _lightweight(config: EncoderConfig) -> int:
    return config.local_heads * config.conv_kernel_size + _local_value(config)


def _local_value(config: EncoderConfig) -> int:
    return _linear(config.hidden_size, config.bottleneck)


def _conventional(config: EncoderConfig) -> int:
    return _linear(config.hidden_size * config.conv_kernel_size, config.bottleneck)


def _nothing(config: EncoderConfig) -> int:
    return 0


_LOCAL_OPERATORS: dict[str, Callable[[EncoderConfig], int]] = {
    "sdconv": _span_dynamic,
    "dynamic": _dynamic,
    "lightweight": _lightweight,
    "conv": _conventional,
    "none": _nothing,
    "attention": _nothing,
}


def encoder_counts(config: EncoderConfig) -> EncoderCounts:
    """Return the parameters of one encoder, part by part."""
    d, E, i = config.hidden_size, config.embedding_size, config.intermediate_size
    rows = config.vocab_size + config.max_positions + config.type_vocab_size
    attention = 3 * _linear(d, config.bottleneck) + _LOCAL_OPERATORS[config.local_op](config)
    feedforward = _linear(d, i, config.num_groups) + _linear(i, d, config.num_groups)
    return EncoderCounts(
        embeddings=rows * E + 2 * E,
        project=_linear(E, d) if d != E else 0,
        attention=attention,
        output=_linear(config.concat_width, d) + 2 * d,
        feedforward=feedforward + 2 * d,
        num_layers=config.num_layers,
    )


def discriminator_head_count(config: EncoderConfig) -> int:
    """Return the parameters of the head that gives one logit a position."""
    d = config.hidden_size
    return _linear(d, d) + _linear(d, 1)


def masked_lm_head_count(config: EncoderConfig) -> int:
    """Return the parameters of the masked-LM head; the word table belongs to the embeddings."""
    E = config.embedding_size
    return _linear(config.hidden_size, E) + 2 * E + config.vocab_size


def parameter_counts(config: PretrainingConfig) -> ParameterCounts:
    """Return the exact parameters of a pretraining run, part by part."""
    encoder, generator = config.discriminator, config.generator
    if generator is None:
        return ParameterCounts(
            encoder_counts(encoder), masked_lm_head_count(encoder), None, 0, tied=True
        )
    return ParameterCounts(
        encoder_counts(encoder),
        discriminator_head_count(encoder),
        None if config.tie_encoders else encoder_counts(generator),
        masked_lm_head_count(generator),
        tied=config.tie_embeddings,
    )
