"""The repetition rules of Gopher (Rae et al. 2021, table A1), vectorized over many documents.

Words are those of ``gopher``. The shares are of all characters but white space:
- lines and paragraphs: the second and later copies count;
- top n-grams: the characters of all copies of the n-gram that covers most;
- repeated n-grams: the characters inside any n-gram that occurs twice or more, each counted once.
  With that reading the share cannot grow with n, so that documents below every bound at the
  smallest n, which nearly all are, need no look at the others.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from convbert.data_pipeline.dedup.words import hash_runs
from convbert.data_pipeline.filters.base import KEEP, Filter, Verdict
from convbert.data_pipeline.filters.by_language import LanguageDefaults
from convbert.data_pipeline.segmentation import spaced

_SOURCE = "Gopher A1"
# n-grams of a document are told apart by 40 bits; two of 10,000 coincide with 1 in 20,000 chances.
_GRAM_BITS = 40
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SPACES = np.array([byte < 128 and chr(byte).isspace() for byte in range(256)])
_OTHER_SPACE = re.compile(r"[^\S\x00-\x7f]")

Length = Annotated[int, Field(ge=1)]  # of an n-gram, in words


class RepetitionConfig(LanguageDefaults):
    """Shares beyond which a document is dropped; those of English from Gopher, table A1."""

    max_duplicate_lines: float = Field(
        0.30, ge=0, description=f"share of lines that repeat ({_SOURCE}: 0.30)"
    )
    max_duplicate_paragraphs: float = Field(
        0.30, ge=0, description=f"share of paragraphs that repeat ({_SOURCE}: 0.30)"
    )
    max_duplicate_line_characters: float = Field(
        0.20, ge=0, description=f"share of characters in repeated lines ({_SOURCE}: 0.20)"
    )
    max_duplicate_paragraph_characters: float = Field(
        0.20, ge=0, description=f"share of characters in repeated paragraphs ({_SOURCE}: 0.20)"
    )
    max_top: dict[Length, float] = Field(
        {2: 0.20, 3: 0.18, 4: 0.16},
        description=f"share of characters in the top n-gram, by n ({_SOURCE})",
    )
    max_repeated: dict[Length, float] = Field(
        {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10},
        description=f"share of characters in n-grams that occur twice or more, by n ({_SOURCE})",
    )


@dataclass(frozen=True)
class _Words:
    """The words of D documents one behind another: N ids, lengths and numbers of documents.

    An id is a hash of 64 bits.
    """

    ids: NDArray[np.uint64]
    lengths: NDArray[np.int64]
    document: NDArray[np.int64]
    count: int

    @classmethod
    def of(cls, texts: Sequence[str]) -> "_Words":
        """Find the words of texts."""
        parts = [_spaced(text).encode("utf-8", "surrogatepass") for text in texts]
        content = np.frombuffer(b" " + b" ".join(parts) + b" ", np.uint8)
        starts, ends, hashes = hash_runs(content, ~_SPACES[content])
        # Bytes that continue a character; without any, bytes are characters.
        inner = np.cumsum((content & 0xC0) == 0x80, dtype=np.int32) if content.max() > 127 else None
        lengths = ends - starts
        if inner is not None:
            lengths = lengths - (inner[ends - 1] - inner[starts - 1])
        borders = np.cumsum([0, *(len(part) + 1 for part in parts)])
        sizes = np.diff(np.searchsorted(starts, borders))
        return cls(hashes, lengths, np.repeat(np.arange(len(texts)), sizes), len(texts))

    def only(self, documents: NDArray[np.bool_]) -> "_Words":
        """Return the words of some documents, which keep their numbers."""
        chosen = documents[self.document]
        parts = (self.ids[chosen], self.lengths[chosen], self.document[chosen])
        return _Words(*parts, self.count)

    def characters(self) -> NDArray[np.float64]:
        """Count the characters of each document [D], without white space; at least 1."""
        return np.maximum(1.0, np.bincount(self.document, self.lengths, self.count))

    def grams(self, n: int) -> "_Grams":
        """Group equal n-grams of one document."""
        inside = len(self.ids) - n + 1
        if inside <= 0:
            nothing = np.zeros(0, np.int64)
            return _Grams(nothing, nothing, nothing)
        hashes = np.zeros(inside, np.uint64)
        for offset in range(n):
            hashes = (hashes + self.ids[offset : offset + inside]) * _MULTIPLIER
            hashes ^= hashes >> np.uint64(32)
        places = np.flatnonzero(self.document[:inside] == self.document[n - 1 :])
        keys = self.document[places].astype(np.uint64) << np.uint64(_GRAM_BITS)
        keys |= (hashes[places] * _MULTIPLIER) >> np.uint64(64 - _GRAM_BITS)
        order = np.argsort(keys)  # equal ones in any order
        ordered = keys[order]
        first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(keys)])
        return _Grams(places[order], first, np.diff(np.append(first, len(keys))))


@dataclass(frozen=True)
class _Grams:
    """Places of n-grams in groups of equal ones: where each group starts and how many it holds."""

    places: NDArray[np.int64]
    first: NDArray[np.int64]
    copies: NDArray[np.int64]


def _spaced(text: str) -> str:
    """Return the text with ASCII white space between all words, and no other."""
    return text if text.isascii() else _OTHER_SPACE.sub(" ", spaced(text))


def top_shares(words: _Words, n: int) -> NDArray[np.float64]:
    """Return for each document [D] the share of the n-gram whose copies cover most characters."""
    grams = words.grams(n)
    several = grams.copies > 1
    place = grams.places[grams.first[several]]
    ends = np.concatenate([[0], np.cumsum(words.lengths)])
    covered = (ends[place + n] - ends[place]) * grams.copies[several]
    best = np.zeros(words.count)
    np.maximum.at(best, words.document[place], covered)
    return best / words.characters()


def repeated_shares(words: _Words, n: int) -> NDArray[np.float64]:
    """Return for each document [D] the share of characters in n-grams that occur again."""
    grams = words.grams(n)
    place = grams.places[np.repeat(grams.copies > 1, grams.copies)]
    change = np.zeros(len(words.ids) + 1, np.int64)
    change[place] += 1
    change[place + n] -= 1
    inside = np.cumsum(change[:-1]) > 0
    covered = np.bincount(words.document[inside], words.lengths[inside], words.count)
    return covered / words.characters()


def duplicate_shares(parts: list[str]) -> tuple[float, float]:
    """Return the share of second and later copies among parts, and among their characters."""
    distinct = set(parts)
    if len(distinct) == len(parts):
        return 0.0, 0.0
    characters = sum(map(len, parts))
    copies = characters - sum(map(len, distinct))
    return 1 - len(distinct) / len(parts), copies / max(characters, 1)


class RepetitionFilter(Filter[RepetitionConfig]):
    """Drops documents that repeat themselves."""

    name = "repetition"
    settings = RepetitionConfig

    def judge(self, texts: Sequence[str]) -> list[Verdict]:
        """Judge each text by the first rule that it breaks: paragraphs, lines, then n-grams."""
        verdicts = [self._parts(text) for text in texts]
        words = _Words.of(texts)
        self._tops(verdicts, words)
        bounds = sorted(self.config.max_repeated.items())
        for place, (n, bound) in enumerate(bounds):
            shares = repeated_shares(words, n)
            _mark(verdicts, shares, bound, f"repeated {n}-grams")
            later = min((b for _, b in bounds[place + 1 :]), default=np.inf)
            words = words.only(shares > later)
        return verdicts

    def _tops(self, verdicts: list[Verdict], words: _Words) -> None:
        """Mark by top n-grams.

        An n-gram is made of at most ceil(n/m) m-grams, each with as many copies at least, so its
        share is at most that multiple of the top m-gram's: most documents are done with the least.
        """
        bounds = sorted(self.config.max_top.items())
        for place, (n, bound) in enumerate(bounds):
            shares = top_shares(words, n)
            _mark(verdicts, shares, bound, f"top {n}-gram")
            later = [b / -(-longer // n) for longer, b in bounds[place + 1 :]]
            words = words.only(shares > min(later, default=np.inf))

    def _parts(self, text: str) -> Verdict:
        config = self.config
        lines = [stripped for line in text.split("\n") if (stripped := line.strip())]
        paragraphs = [stripped for part in text.split("\n\n") if (stripped := part.strip())]
        for name, parts, most, most_characters in (
            (
                "paragraphs",
                paragraphs,
                config.max_duplicate_paragraphs,
                config.max_duplicate_paragraph_characters,
            ),
            ("lines", lines, config.max_duplicate_lines, config.max_duplicate_line_characters),
        ):
            share, characters = duplicate_shares(parts)
            if share > most:
                return Verdict(f"duplicate {name}", f"{share:.0%}")
            if characters > most_characters:
                return Verdict(f"characters of duplicate {name}", f"{characters:.0%}")
        return KEEP


def _mark(verdicts: list[Verdict], shares: NDArray[np.float64], bound: float, reason: str) -> None:
    """Set the verdict of documents above a bound that have none yet."""
    for place in np.flatnonzero(shares > bound):
        if verdicts[place] is KEEP:
            verdicts[place] = Verdict(reason, f"{shares[place]:.0%}")
