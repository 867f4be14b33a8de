"""Training cost of every model, in the papers' convention and as work really done.

``electra`` is the accounting behind the figures of the ELECTRA and ConvBERT papers: embedding
lookups count as dense one-hot products, elementwise operations have constants, and the backward
pass is taken to cost as much as the forward pass. ``hardware`` is what to compare with the peak
rate of an accelerator: multiply-adds only, lookups free, the backward pass twice the forward pass.

Letters: s tokens, d hidden size, E embedding size, V vocabulary, A heads, N heads left beside the
local operator, a = N * H bottleneck width, K kernel taps, G groups, i feed-forward size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from convbert.models.architecture import EncoderConfig, PretrainingConfig

Convention = Literal["electra", "hardware"]
Head = Literal["none", "discriminator", "masked_lm"]

# What forward and backward pass cost together, in forward passes.
_PASSES: dict[Convention, int] = {"electra": 2, "hardware": 3}
# Operations per element in the papers' accounting.
_DROPOUT, _LAYER_NORM, _GELU, _SOFTMAX = 4, 5, 8, 5


@dataclass(frozen=True)
class Work:
    """Floating-point operations of one part for one sequence; a multiply-add counts as two.

    ``products`` are multiply-adds that are really carried out: matrix products, and the taps of
    every convolution however its kernel is written. ``one_hot`` are the products an embedding
    lookup would take if it were a dense matrix product. ``elementwise`` is everything else.
    """

    products: float = 0.0
    one_hot: float = 0.0
    elementwise: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        """Add part by part."""
        return Work(
            self.products + other.products,
            self.one_hot + other.one_hot,
            self.elementwise + other.elementwise,
        )

    def __mul__(self, times: float) -> "Work":
        """Repeat the work ``times`` times."""
        return Work(self.products * times, self.one_hot * times, self.elementwise * times)


def _linear(rows: int, columns: int, groups: int = 1) -> Work:
    """One token through a linear map with bias."""
    return Work(products=2 * rows * columns / groups, elementwise=columns)


def _span_dynamic(config: EncoderConfig) -> dict[str, Work]:
    d, a, K = config.hidden_size, config.bottleneck, config.conv_kernel_size
    return {
        "span key": Work(products=2 * d * K) + _linear(d, a) + Work(elementwise=a),
        **_dynamic(config),
    }


def _dynamic(config: EncoderConfig) -> dict[str, Work]:
    taps = config.local_heads * config.conv_kernel_size
    kernel = _linear(config.bottleneck, taps) + Work(elementwise=_SOFTMAX * taps)
    return {"kernel": kernel, **_mixing(config)}


def _lightweight(config: EncoderConfig) -> dict[str, Work]:
    taps = config.local_heads * config.conv_kernel_size
    return {"kernel": Work(elementwise=_SOFTMAX * taps), **_mixing(config)}


def _mixing(config: EncoderConfig) -> dict[str, Work]:
    """Project the operator's own value and apply K taps to each of its channels."""
    a = config.bottleneck
    return {
        "local value": _linear(config.hidden_size, a),
        "local mixing": Work(products=2 * a * config.conv_kernel_size),
    }


def _conventional(config: EncoderConfig) -> dict[str, Work]:
    return {
        "local mixing": _linear(config.hidden_size * config.conv_kernel_size, config.bottleneck)
    }


def _nothing(config: EncoderConfig) -> dict[str, Work]:
    return {}


_LOCAL_OPERATORS: dict[str, Callable[[EncoderConfig], dict[str, Work]]] = {
    "sdconv": _span_dynamic,
    "dynamic": _dynamic,
    "lightweight": _lightweight,
    "conv": _conventional,
    "none": _nothing,
    "attention": _nothing,
}


def layer_work(config: EncoderConfig, seq_len: int) -> dict[str, Work]:
    """Return the parts of one layer, for all ``seq_len`` tokens of a sequence.

    The constants follow ELECTRA's published script, its slip included: the layer norm after
    attention counts as 5 operations a token, not 5 * d. ConvBERT's terms (section 3 of the paper)
    are added in the same manner.
    """
    d, i, a, N = (
        config.hidden_size,
        config.intermediate_size,
        config.bottleneck,
        config.local_heads,
    )
    up, down = _linear(d, i, config.num_groups), _linear(i, d, config.num_groups)
    token = {
        "attention projections": _linear(d, a) * 3,
        "attention": Work(
            products=4 * a * seq_len,
            elementwise=(_SOFTMAX + _DROPOUT + 1) * seq_len * N,
        ),
        **_LOCAL_OPERATORS[config.local_op](config),
        "output projection": _linear(config.concat_width, d)
        + Work(elementwise=_DROPOUT * d + d + _LAYER_NORM),
        "feed-forward": up
        + Work(elementwise=_GELU * i)
        + down
        + Work(elementwise=_DROPOUT * d + d + _LAYER_NORM * d),
    }
    return {part: work * seq_len for part, work in token.items()}


def embedding_work(config: EncoderConfig, seq_len: int) -> Work:
    """Return the cost of looking up, adding and normalizing the embeddings of one sequence."""
    d, E = config.hidden_size, config.embedding_size
    rows = config.vocab_size + seq_len + config.type_vocab_size
    token = Work(one_hot=2 * E * rows, elementwise=(2 + _LAYER_NORM + _DROPOUT) * E)
    if d != E:
        token += _linear(E, d)
    return token * seq_len


def encoder_work(config: EncoderConfig, seq_len: int) -> dict[str, Work]:
    """Return the parts of a whole encoder for one sequence, equal layers summed."""
    layers = layer_work(config, seq_len)
    return {
        "embeddings": embedding_work(config, seq_len),
        **{part: work * config.num_layers for part, work in layers.items()},
    }


def discriminator_head_work(config: EncoderConfig, seq_len: int) -> Work:
    """Return the cost of one logit at every position."""
    d = config.hidden_size
    return (_linear(d, d) + Work(products=2 * d, elementwise=_GELU * d)) * seq_len


def masked_lm_head_work(config: EncoderConfig, masked_positions: float) -> Work:
    """Return the cost of predicting ``masked_positions`` tokens over the vocabulary."""
    d, E, V = config.hidden_size, config.embedding_size, config.vocab_size
    normalized = Work(elementwise=(_GELU + _LAYER_NORM) * E)
    logits = Work(products=2 * E * V, one_hot=2 * V, elementwise=_SOFTMAX * V)
    return (_linear(d, E) + normalized + logits) * masked_positions


def _head_work(head: Head, config: EncoderConfig, seq_len: int, masked_positions: float) -> Work:
    if head == "discriminator":
        return discriminator_head_work(config, seq_len)
    return masked_lm_head_work(config, masked_positions) if head == "masked_lm" else Work()


def _default_masked_positions(seq_len: int, convention: Convention) -> float:
    """Return ELECTRA's 20 of every 128, or the slots that exist: 19 of 128, 79 of 512."""
    return seq_len * 20 / 128 if convention == "electra" else max(1, int(0.155 * seq_len))


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
    if masked_positions is None:
        masked_positions = _default_masked_positions(seq_len, convention)
    work = sum(encoder_work(config, seq_len).values(), Work())
    work += _head_work(head, config, seq_len, masked_positions)
    if convention == "hardware":
        return work.products
    return work.products + work.one_hot + work.elementwise


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
    passes = _PASSES[convention]
    if config.generator is None:
        return passes * forward(config.discriminator, head="masked_lm")
    generator = forward(config.generator, head="masked_lm")
    discriminator = forward(config.discriminator, head="discriminator")
    if config.tie_embeddings == "gdes" and convention == "electra":
        # Rows of three tables are added; the lookup itself is charged once, as that of the sums.
        discriminator += 3 * config.discriminator.embedding_size * seq_len
    return passes * (generator + discriminator)
