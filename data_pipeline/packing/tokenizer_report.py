"""How well a tokenizer fits a text: fertility, unknown and byte tokens, lengths, examples."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
from pydantic import BaseModel, Field

from convbert.data_pipeline.segmentation import spaced, split_segments
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.data_pipeline.tokenizer.training import sample_texts
from convbert.models.errors import UserError

SAMPLE_CHARACTERS = 64 << 20
BATCH_DOCUMENTS = 256
SHOWN = 10
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


class TokenizerReport(BaseModel):
    """Figures of a tokenizer on a sample of documents; rates are shares of all tokens."""

    digest: str
    vocab_size: int
    documents: int
    characters: int
    words: int = Field(description="parts between white space, or ICU's where a script has none")
    tokens: int
    fertility: float = Field(description="tokens per word")
    characters_per_token: float
    unknown_rate: float
    byte_rate: float = Field(description="tokens that are single bytes of characters without one")
    whole_words: float = Field(description="share of the words that are one token")
    used: float = Field(description="share of the vocabulary that occurs")
    length: dict[str, float] = Field(description="tokens of a document: mean and percentiles")
    fitting: dict[int, float] = Field(description="share of documents within a sequence length")
    longest_pieces: list[str]
    most_split: list[tuple[str, list[str]]] = Field(description="frequent words in most pieces")
    not_covered: list[tuple[str, int]] = Field(description="words with unknown or byte tokens")
    examples: list[list[str]] = Field(description="the first tokens of some documents")

    def figures(self) -> list[tuple[str, str]]:
        """Return (name, value) for a table."""
        length = ", ".join(f"{name} {value:,.0f}" for name, value in self.length.items())
        fitting = ", ".join(f"{share:.1%} in {n}" for n, share in self.fitting.items())
        rows = [
            ("tokenizer", f"{self.digest[:12]}, {self.vocab_size:,} ids, {self.used:.1%} occur"),
            ("sample", f"{self.documents:,} documents, {self.characters:,} characters"),
            ("words", f"{self.words:,}, {self.whole_words:.1%} are one token"),
            ("tokens", f"{self.tokens:,}"),
            ("fertility", f"{self.fertility:.3f} tokens per word"),
            ("compression", f"{self.characters_per_token:.2f} characters per token"),
            ("unknown", f"{self.unknown_rate:.4%} of the tokens"),
            ("bytes", f"{self.byte_rate:.4%} of the tokens"),
            ("length", f"{length} tokens per document"),
            ("documents", f"{fitting} tokens with [CLS] and [SEP]"),
            ("longest", "  ".join(self.longest_pieces)),
        ]
        rows += [("most split", f"{word}: {' '.join(p)}") for word, p in self.most_split]
        rows += [("not covered", f"{word} ({n:,} times)") for word, n in self.not_covered]
        return rows + [("example", " ".join(pieces)) for pieces in self.examples]


def report_tokenizer(
    tokenizer: Tokenizer, texts: Iterable[str], *, documents: int = 10_000, seed: int = 0
) -> TokenizerReport:
    """Measure a tokenizer on a sample of ``documents`` that does not depend on their order.

    Raises ``UserError`` if the texts hold no word.
    """
    sample = sample_texts(texts, documents, SAMPLE_CHARACTERS, seed)
    words = Counter(word for text in sample for word in spaced(text).split())
    if not words:
        raise UserError("tokenizer report: the input holds no words; check paths and field")
    pieces = tokenizer.pieces()
    encoded = list(_encode(tokenizer, sample))
    counts = np.bincount(np.concatenate(encoded), minlength=tokenizer.vocab_size)
    bytes_ = np.array([bool(_BYTE.fullmatch(piece)) for piece in pieces])
    alien = bytes_.copy()
    alien[tokenizer.unk_id] = True
    split = {
        word: _without_prefix(word, [pieces[i] for i in ids])
        for word, ids in zip(words, tokenizer.encode_batch(list(words)), strict=True)
    }
    foreign = {piece for piece, is_alien in zip(pieces, alien, strict=True) if is_alien}
    total, tokens = words.total(), int(counts.sum())
    lengths = np.array([len(ids) for ids in encoded])
    return TokenizerReport(
        digest=tokenizer.digest,
        vocab_size=tokenizer.vocab_size,
        documents=len(sample),
        characters=sum(map(len, sample)),
        words=total,
        tokens=tokens,
        fertility=tokens / total,
        characters_per_token=sum(map(len, sample)) / max(tokens, 1),
        unknown_rate=float(counts[tokenizer.unk_id]) / max(tokens, 1),
        byte_rate=float(counts[bytes_].sum()) / max(tokens, 1),
        whole_words=sum(n for word, n in words.items() if len(split[word]) == 1) / total,
        used=float(np.count_nonzero(counts)) / tokenizer.vocab_size,
        length=_lengths(lengths),
        fitting={n: float(np.mean(lengths + 2 <= n)) for n in (128, 512)},
        longest_pieces=sorted(pieces, key=len, reverse=True)[:SHOWN],
        most_split=_most_split(words, split, foreign),
        not_covered=_not_covered(words, split, foreign),
        examples=[[pieces[i] for i in ids[:40]] for ids in encoded[:3]],
    )


def _encode(tokenizer: Tokenizer, sample: list[str]) -> Iterator[np.ndarray]:
    """Yield the ids of each document, split into segments as for packing."""
    texts = iter(sample)
    while batch := [split_segments(text) for text in islice(texts, BATCH_DOCUMENTS)]:
        encoded = iter(tokenizer.encode_batch([s for segments in batch for s in segments]))
        for segments in batch:
            ids = [i for _ in segments for i in next(encoded)]
            yield np.array(ids, dtype=np.int64)


def _without_prefix(word: str, pieces: list[str]) -> list[str]:
    """Leave out the space that a tokenizer puts before a word that has none in its text."""
    return pieces[1:] if pieces[:1] == ["\u2581"] and spaced(word) != word else pieces


def _lengths(lengths: np.ndarray) -> dict[str, float]:
    marks = {"median": 50, "90 %": 90, "99 %": 99, "most": 100}
    found = {name: float(np.percentile(lengths, mark)) for name, mark in marks.items()}
    return {"mean": float(lengths.mean()), **found}


def _most_split(
    words: Counter[str], split: dict[str, list[str]], foreign: set[str]
) -> list[tuple[str, list[str]]]:
    """Among the 2,000 most frequent words, those in most pieces; ties by frequency, spelling."""
    frequent = sorted(words, key=lambda word: (-words[word], word))[:2000]
    covered = [word for word in frequent if not foreign.intersection(split[word])]
    chosen = sorted(covered, key=lambda word: -len(split[word]))[:SHOWN]
    return [(word, split[word]) for word in chosen if len(split[word]) > 1]


def _not_covered(
    words: Counter[str], split: dict[str, list[str]], foreign: set[str]
) -> list[tuple[str, int]]:
    """Return the most frequent words with tokens that stand for no text of their own."""
    missed = [word for word in words if foreign.intersection(split[word])]
    return [(w, words[w]) for w in sorted(missed, key=lambda w: (-words[w], w))[:SHOWN]]
