"""The attention and the span kernels of every head of an encoder on one text, layer by layer.

Shapes: N heads, L tokens with [CLS] and [SEP], K kernel taps, T texts, Y layers, M measures.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from convbert.models.attention import MixedAttention
from convbert.models.encoder import Encoder
from convbert.models.errors import UserError
from convbert.models.interop.hf import load_pretrained
from convbert.models.pretraining import kept_encoder
from convbert.pretrain.exchange.run_models import find_run, require_fitting
from convbert.pretrain.show.notes import position
from convbert.pretrain.show.reader import MASK, Reader
from convbert.pretrain.show.samples import samples_of
from convbert.pretrain.show.sources import Request, chosen_models


class HeadMeasures(NamedTuple):
    """What a head weighs, as means over the tokens between [CLS] and [SEP].

    ``near`` is the share of the attention on tokens that a kernel would reach, the token itself
    included; ``frame`` that on [CLS] and [SEP]. Of the kernel ``own`` is the weight of the token
    itself, ``distance`` the mean distance in tokens, and ``change`` how much of a kernel differs
    from the head's mean kernel (total variation): 0 for one that is the same at every token. The
    three are NaN for a model without kernels.
    """

    near: float
    frame: float
    own: float = math.nan
    distance: float = math.nan
    change: float = math.nan


@dataclass(frozen=True)
class Head:
    """One head on one text: attention [L, L], kernel [L, K] or None, and their measures."""

    attention_LL: Tensor
    kernel_LK: Tensor | None
    measures: HeadMeasures


@dataclass(frozen=True)
class TextHeads:
    """One text as an encoder reads it, and its heads by layer."""

    text: str
    words: list[str]
    left_out: int
    limit: int
    layers: list[list[Head]]


@dataclass(frozen=True)
class HeadSeries:
    """The heads of one encoder on several texts; ``reach`` is (K - 1) / 2."""

    source: str
    local_op: str
    reach: int
    texts: list[TextHeads]

    @property
    def has_kernels(self) -> bool:
        """Whether each head of the local operator has kernels of its own."""
        return self.texts[0].layers[0][0].kernel_LK is not None


def read_heads(request: Request, most: int, device: torch.device) -> HeadSeries:
    """Return the heads of what ``request`` names on its texts, of each ``most`` tokens at most.

    Of a run it is the encoder that is kept, at one checkpoint, by default on sentences of the
    run's own data. Raises ``UserError`` for what is not there or cannot be read.
    """
    found = find_run(request.source)
    require_fitting(request.source, found, step=request.step, tokenizer=request.tokenizer)
    if found is None:
        if not request.texts:
            raise UserError(f"{request.source}: is no run with data of its own; give a TEXT")
        reader = Reader.open(request.tokenizer or request.source)
        encoder, name = load_pretrained(request.source), request.source.resolve().name
        limit = encoder.config.max_positions
        return look_at_heads(name, encoder.to(device), reader, request.texts, min(most, limit))
    models, step = chosen_models(request, found)
    texts = request.texts or [
        sample.text.replace(MASK, sample.answer) if sample.answer else sample.text
        for sample in samples_of(models.config, models.tokenizer)
    ]
    if not texts:
        raise UserError(f"{models.run.path}: its data give no sentence to show; give a TEXT")
    encoder = kept_encoder(models.trained(step)).to(device)
    limit = models.timeline.at(step - 1).seq_len
    name = f"{models.run.name}: {position(models.points[1])}"
    return look_at_heads(name, encoder, Reader.of(models.tokenizer), texts, min(most, limit))


def look_at_heads(
    source: str, encoder: Encoder, reader: Reader, texts: Sequence[str], limit: int
) -> HeadSeries:
    """Return the heads of ``encoder`` on texts, of which it reads ``limit`` ids at most."""
    config = encoder.config
    looks = [_text_heads(encoder, reader, text, limit) for text in texts]
    return HeadSeries(source, config.local_op, config.conv_kernel_size // 2, looks)


def _text_heads(encoder: Encoder, reader: Reader, text: str, limit: int) -> TextHeads:
    row, left_out = reader.fitted_row(text, limit, encoder.config.vocab_size)
    ids_BL = torch.tensor([row], device=encoder.embeddings.word.weight.device)
    reach = encoder.config.conv_kernel_size // 2
    layers = []
    for attention_BNLL, kernels_BLNK in layer_weights(encoder, ids_BL):
        attention_NLL = attention_BNLL[0].double().cpu()
        kernels = [None] * len(attention_NLL)
        if kernels_BLNK is not None:
            kernels = list(kernels_BLNK[0].transpose(0, 1).double().cpu())
        pairs = zip(attention_NLL, kernels, strict=True)
        layers.append([Head(a, k, measure(a, k, reach)) for a, k in pairs])
    words = [reader.word(number) for number in row]
    return TextHeads(text, words, left_out, limit, layers)


@torch.no_grad()
def layer_weights(encoder: Encoder, ids_BL: Tensor) -> list[tuple[Tensor, Tensor | None]]:
    """Return ``MixedAttention.weights`` of every layer for rows without padding."""
    found: list[tuple[Tensor, Tensor | None]] = []

    def keep(block: nn.Module, given: tuple[Tensor, ...]) -> None:
        assert isinstance(block, MixedAttention)
        found.append(block.weights(*given))

    blocks = [part for part in encoder.modules() if isinstance(part, MixedAttention)]
    hooks = [block.register_forward_pre_hook(keep) for block in blocks]
    training = encoder.training
    try:
        encoder.eval()(ids_BL)
    finally:
        encoder.train(training)
        for hook in hooks:
            hook.remove()
    return found


def measure(attention_LL: Tensor, kernel_LK: Tensor | None, reach: int) -> HeadMeasures:
    """Return the measures of one head."""
    places = torch.arange(len(attention_LL))
    near_LL = (places - places[:, None]).abs() <= reach
    inner = attention_LL[1:-1]
    near = float((inner * near_LL[1:-1]).sum(-1).mean())
    frame = float(inner[:, [0, -1]].sum(-1).mean())
    if kernel_LK is None:
        return HeadMeasures(near, frame)
    taps_MK = kernel_LK[1:-1]
    mean_K = taps_MK.mean(0)
    steps_K = torch.arange(-reach, reach + 1).abs()
    change = (taps_MK - mean_K).abs().sum(-1).mean() / 2
    return HeadMeasures(
        near, frame, float(mean_K[reach]), float((mean_K * steps_K).sum()), float(change)
    )


def mean_measures(series: HeadSeries) -> list[list[HeadMeasures]]:
    """Return the measures of each layer's heads, as means over all tokens of all texts."""
    weights = torch.tensor([len(text.words) - 2.0 for text in series.texts], dtype=torch.float64)
    table_TYNM = torch.tensor(
        [[[head.measures for head in heads] for heads in text.layers] for text in series.texts],
        dtype=torch.float64,
    )
    mean_YNM = torch.einsum("t,tynm->ynm", weights / weights.sum(), table_TYNM)
    return [[HeadMeasures(*head) for head in heads] for heads in mean_YNM.tolist()]
