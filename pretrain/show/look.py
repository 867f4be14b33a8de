"""One look at a text through one model: fillings by the generator, verdicts by the discriminator.

The masks of the text, and a share of its other tokens, are replaced by samples of the generator, as
in pretraining; then the discriminator says for every token how likely it is to be a replacement.
Which tokens are replaced, and the draws, follow from the seed and the length of the text, so that
checkpoints see the same places.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from convbert.models.encoder import Encoder
from convbert.models.heads import MaskedLMHead
from convbert.models.ops.masked_lm import masked_lm
from convbert.models.pretraining import PretrainingModel, ReplacedTokenModel
from convbert.pretrain.objective.counter_rng import uniform
from convbert.pretrain.show.reader import Reader
from convbert.pretrain.show.records import Filling, Look, Verdict

_PLACES, _DRAWS = 1, 2  # streams of random numbers


@dataclass(frozen=True)
class Options:
    """How many fillings, which share of the tokens is replaced, and the seed of the replacing."""

    top: int = 5
    share: float = 0.15
    seed: int = 0


@torch.no_grad()
def look(
    model: PretrainingModel,
    reader: Reader,
    text: str,
    limit: int,
    options: Options,
    *,
    judge: bool = True,
) -> Look:
    """Return what ``model`` makes of ``text``, of which it reads ``limit`` tokens at most.

    Without ``judge`` the discriminator is not asked. Raises ``UserError`` for an empty text and
    for the tokenizer of another model.
    """
    row, left_out = reader.fitted_row(text, limit, generator_of(model)[0].config.vocab_size)
    training = model.training
    model.eval()
    try:
        ids = torch.tensor([row], device=next(model.parameters()).device)
        fillings = _fill(model, reader, ids, options.top)
        verdicts: list[Verdict] | None = [] if judge else None
        if judge and isinstance(model, ReplacedTokenModel):
            verdicts = _judge(model, reader, ids, options)
    finally:
        model.train(training)
    return Look(
        fillings=fillings,
        verdicts=verdicts,
        tokens=len(row) - 2,
        left_out=left_out,
        limit=limit,
    )


def generator_of(model: PretrainingModel) -> tuple[Encoder, MaskedLMHead]:
    """Return the network that fills masks."""
    if isinstance(model, ReplacedTokenModel):
        return model.generator, model.generator_head
    return model.encoder, model.head


def _fill(model: PretrainingModel, reader: Reader, ids_BL: Tensor, top: int) -> list[list[Filling]]:
    """Return the likeliest tokens of every mask in a row."""
    places = (ids_BL[0] == reader.mask_id).nonzero()[:, 0]
    if not len(places):
        return []
    encoder, head = generator_of(model)
    logits_MV = head(encoder(ids_BL)[0, places]).double()
    likely = logits_MV.softmax(-1).topk(min(top, logits_MV.shape[1]))
    return [
        [
            Filling(word=reader.word(i), piece=reader.piece(i), probability=p)
            for p, i in zip(probabilities, numbers, strict=True)
        ]
        for probabilities, numbers in zip(
            likely.values.tolist(), likely.indices.tolist(), strict=True
        )
    ]


def replace(
    model: PretrainingModel, reader: Reader, ids_BL: Tensor, options: Options
) -> tuple[Tensor, Tensor]:
    """Return a row with samples of the generator in it, and where they are (bool), both [1, L]."""
    length = ids_BL.shape[1]
    first = torch.zeros(1, dtype=torch.int64, device=ids_BL.device)
    keys_BL = uniform(options.seed, _PLACES, first, length)
    draws_BL = uniform(options.seed, _DRAWS, first, length)
    masked_BL = ids_BL == reader.mask_id
    own_BL = ~masked_BL
    own_BL[:, 0] = own_BL[:, -1] = False
    own = int(own_BL.sum())
    count = min(own, max(1, round(options.share * own))) if options.share else 0
    chosen = keys_BL.masked_fill(~own_BL, 2.0).topk(count, largest=False).indices
    masked_BL = masked_BL.scatter(1, chosen, value=True)
    if not masked_BL.any():
        return ids_BL, masked_BL
    encoder, head = generator_of(model)
    hidden_MD = encoder(ids_BL.masked_fill(masked_BL, reader.mask_id))[masked_BL]
    unused_M = torch.zeros(len(hidden_MD), dtype=torch.int64, device=ids_BL.device)
    _, sampled_M, _ = masked_lm(
        head.transform(hidden_MD), head.vocabulary, head.bias, unused_M, draws_BL[masked_BL]
    )
    return ids_BL.masked_scatter(masked_BL, sampled_M), masked_BL


def _judge(
    model: ReplacedTokenModel, reader: Reader, ids_BL: Tensor, options: Options
) -> list[Verdict]:
    """Return the verdict on every token but [CLS] and [SEP]."""
    read_BL, masked_BL = replace(model, reader, ids_BL, options)
    logits_BL = model.discriminator_head(model.discriminator(read_BL))
    rows = (t[0, 1:-1].tolist() for t in (ids_BL, read_BL, masked_BL, logits_BL.double().sigmoid()))
    return [
        Verdict(
            word=reader.word(shown),
            piece=reader.piece(shown),
            masked=masked,
            original=None if before == reader.mask_id else reader.word(before),
            changed=None if before == reader.mask_id else before != shown,
            replaced=probability,
        )
        for before, shown, masked, probability in zip(*rows, strict=True)
    ]
