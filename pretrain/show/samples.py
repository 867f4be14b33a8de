"""Sentences of a run's own text with one word masked, in any language."""

import hashlib
import random
from collections.abc import Iterator

import regex
from torch import Tensor

from convbert.data_pipeline.loading.loader import ShardLoader
from convbert.data_pipeline.segmentation import split_segments
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.pretrain.settings.run import RunConfig
from convbert.pretrain.show.records import MASK, Sample

COUNT = 4
_ROWS = 64  # read at most
_FEWEST, _MOST = 8, 48  # tokens of a sentence; a longer one is cut
_WORD = regex.compile(r"[\p{L}\p{M}]+")
_GOES_ON = regex.compile(r"['’]?[\p{L}\p{M}]")
_LONG = 4  # letters of a word that is worth guessing


def samples_of(config: RunConfig, tokenizer: Tokenizer) -> list[Sample]:
    """Return the texts of ``evaluation.show``, or a few sentences of the run's shards.

    Held-out shards are preferred to those of the training. Raises ``UserError`` for shards that
    cannot be read.
    """
    if config.evaluation.show is not None:
        return [Sample(text=text) for text in config.evaluation.show]
    return sentences(config, tokenizer)


def sentences(config: RunConfig, tokenizer: Tokenizer) -> list[Sample]:
    """Return up to ``COUNT`` sentences of different rows, each with a word masked.

    What a row cuts off, and what is too long, is taken only where there are too few whole ones.
    """
    whole: list[Sample] = []
    parts: list[Sample] = []
    for row in _rows(config, tokenizer):
        inner, ends = _sentences(row, tokenizer)
        sample = _first_masked([ids for ids in inner if len(ids) <= _MOST], tokenizer)
        kind = whole if sample else parts
        sample = sample or _first_masked([*inner, *ends], tokenizer)
        if sample is not None and sample not in kind:
            kind.append(sample)
        if len(whole) == COUNT:
            break
    return [*whole, *parts][:COUNT]


def _rows(config: RunConfig, tokenizer: Tokenizer) -> Iterator[Tensor]:
    """Yield rows of ids [L] in an order that depends on the shards alone."""
    loader = ShardLoader(
        config.evaluation.held_out or config.data.blend,
        global_batch=1,
        tokenizer_digest=tokenizer.digest,
        cache=config.data.cache_settings,
    )
    try:
        for number in range(_ROWS):
            yield loader.batch(number).input_ids[0]
    finally:
        loader.close()


def _sentences(row_L: Tensor, tokenizer: Tokenizer) -> tuple[list[list[int]], list[list[int]]]:
    """Return the ids of sentences inside the pieces of a row, and of those at their ends."""
    frame = {tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id}
    pieces: list[list[int]] = [[]]
    for number in row_L.tolist():
        if number in frame:
            pieces.append([])
        else:
            pieces[-1].append(number)
    texts = [split_segments(tokenizer.decode(piece)) for piece in pieces if piece]
    inner = [sentence for text in texts for sentence in text[1:-1]]
    ends = [sentence for text in texts for sentence in (*text[:1], *text[1:][-1:])]
    return tokenizer.encode_batch(inner), tokenizer.encode_batch(ends)


def _first_masked(sentences: list[list[int]], tokenizer: Tokenizer) -> Sample | None:
    for ids in sentences:
        if len(ids) >= _FEWEST and (sample := mask_a_word(ids[:_MOST], tokenizer)):
            return sample
    return None


def mask_a_word(ids: list[int], tokenizer: Tokenizer) -> Sample | None:
    """Return the text of ``ids`` with one token masked that is a word, None without such a token.

    Whole words are preferred to parts, long ones to short ones. Which one it is follows from
    the text alone.
    """
    text = tokenizer.decode(ids)
    ranked: dict[int, list[Sample]] = {}
    for place in range(1, len(ids) - 1):
        before, through = tokenizer.decode(ids[:place]), tokenizer.decode(ids[: place + 1])
        spaced = through.removeprefix(before)
        word = spaced.strip()
        after = text.removeprefix(through)
        if before + spaced + after != text or not _WORD.fullmatch(word):
            continue
        whole = spaced != word and not _GOES_ON.match(after)
        rank = 2 * whole + (len(word) >= _LONG)
        masked = before + spaced.replace(word, MASK) + after
        ranked.setdefault(rank, []).append(Sample(text=masked, answer=word))
    if not ranked:
        return None
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest)).choice(ranked[max(ranked)])
