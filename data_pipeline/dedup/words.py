"""Words of many documents at once, as 64-bit hashes.

A word is a run of letters, digits and marks of the lower-cased NFKC text: punctuation, symbols and
white space only part words. Scripts without spaces have the words of ``segmentation``. Hashing
whole batches in numpy takes a fraction of the time that a list of Python strings would.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from convbert.data_pipeline.segmentation import spaced

Hashes = NDArray[np.uint64]

_BASE = 0x9E3779B97F4A7C15  # odd, so that its powers have inverses modulo 2**64
_MULTIPLIER = np.uint64(0xFF51AFD7ED558CCD)
_HASHED_AT_ONCE = 1 << 21
_WORD = re.compile("[a-z0-9\x80-\U0010ffff]+")


@cache
def _separators() -> re.Pattern[str]:
    """Match runs of punctuation, symbols and spaces beyond ASCII."""
    ranges = (range(0x80, 0x3100), range(0xFE00, 0x10000))
    found = [chr(c) for r in ranges for c in r if unicodedata.category(chr(c))[0] in "PSZC"]
    return re.compile("[" + "".join(map(re.escape, found)) + "]+")


def normalized(text: str) -> str:
    """Lower-case, compose and space a text; what is left beyond ASCII belongs to words."""
    if text.isascii():
        return text.lower()
    return spaced(_separators().sub(" ", unicodedata.normalize("NFKC", text).lower()))


def words(text: str) -> list[str]:
    """Return the words of a text, those whose hashes ``hash_words`` gives."""
    return _WORD.findall(normalized(text))


@dataclass(frozen=True)
class HashedWords:
    """Hashes [n] of a batch's words; document i has those of ``[offsets[i], offsets[i + 1])``."""

    hashes: Hashes
    offsets: NDArray[np.int64]

    def ngrams(self, size: int) -> "HashedWords":
        """Return the hashes of all runs of ``size`` words of one document.

        A document with fewer words has one run: all its words, and none if it has no word.
        """
        counts = np.diff(self.offsets)
        runs = np.where(counts >= size, counts - size + 1, np.minimum(counts, 1))
        offsets = np.concatenate([[0], np.cumsum(runs)])
        # Padding lets runs of short documents reach beyond the last word.
        padded = np.concatenate([self.hashes, np.zeros(size, np.uint64)])
        starts = np.repeat(self.offsets[:-1] - offsets[:-1], runs) + np.arange(offsets[-1])
        lengths = np.repeat(np.minimum(counts, size), runs)
        combined = np.zeros(len(starts), np.uint64)
        for i in range(size):
            inside = i < lengths
            combined = np.where(inside, combined * np.uint64(_BASE) + padded[starts + i], combined)
        return HashedWords(_mixed(combined), offsets)


def hash_words(texts: Sequence[str]) -> HashedWords:
    """Hash the words of a batch of documents."""
    encoded = [normalized(text).encode("utf-8", "surrogatepass") for text in texts]
    content = np.frombuffer(b" " + b" ".join(encoded) + b" ", np.uint8)
    starts, _, hashes = hash_runs(content, _word_bytes()[content])
    borders = np.cumsum([0, *(len(part) + 1 for part in encoded)])
    return HashedWords(hashes, np.searchsorted(starts, borders).astype(np.int64))


def hash_runs(
    content: NDArray[np.uint8], inside: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Hashes]:
    """Return starts, ends and hashes of the runs of bytes that are ``inside``.

    The first and the last byte must not be. Some megabytes are hashed at a time, cut between runs:
    it takes 40 bytes of memory for each.
    """
    parts = []
    start = 0
    while start + 1 < len(content):
        end = min(start + _HASHED_AT_ONCE, len(content))
        if end < len(content):
            end += int(np.argmin(inside[end - 1 :]))  # up to the next byte outside
        starts, ends, hashes = _hash_runs(content[start:end], inside[start:end])
        parts.append((starts + start, ends + start, hashes))
        start = end - 1
    starts, ends, hashes = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return starts, ends, hashes


def _hash_runs(
    content: NDArray[np.uint8], inside: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Hashes]:
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    starts, ends = edges[::2], edges[1::2]
    powers, inverses = _powers(1 << (len(content) - 1).bit_length())
    terms = _values()[content]
    terms *= powers[: len(content)]
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms)])
    return starts, ends, _mixed((sums[ends] - sums[starts]) * inverses[starts])


def _mixed(hashes: Hashes) -> Hashes:
    """Spread the bits (the finalizer of MurmurHash3, shortened)."""
    hashes = hashes ^ (hashes >> np.uint64(33))
    hashes *= _MULTIPLIER
    hashes ^= hashes >> np.uint64(33)
    return hashes


@cache
def _word_bytes() -> NDArray[np.bool_]:
    """Return for each byte whether it belongs to a word."""
    is_word = np.zeros(256, bool)
    is_word[list(b"abcdefghijklmnopqrstuvwxyz0123456789")] = True
    is_word[128:] = True
    return is_word


@cache
def _values() -> Hashes:
    """Return a random value for each byte."""
    values = b"".join(blake2b(bytes([i]), digest_size=8).digest() for i in range(256))
    return np.frombuffer(values, "<u8")


@cache
def _powers(count: int) -> tuple[Hashes, Hashes]:
    """Return the first powers of the base and of its inverse, modulo 2**64."""
    both = []
    for base in (_BASE, pow(_BASE, -1, 1 << 64)):
        factors = np.full(count, base, np.uint64)
        factors[0] = 1
        both.append(np.cumprod(factors, dtype=np.uint64))
    return both[0], both[1]
