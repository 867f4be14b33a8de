"""Make minimal pairs from text in any language: a sentence, and the same one with one fault.

A fault moves, drops or exchanges *units*: words where the text has spaces between them, else
characters as people see them (grapheme clusters). The first and the last unit stay, because a
capital letter or a full stop in the wrong place would give the fault away.

``replace`` is close to the pretraining task of a discriminator, which is trained to find replaced
tokens; a swap is two replaced tokens at once. ``delete`` is furthest from it.

Which sentences are taken, and where the fault is, follow from the seed and the sentence alone.
"""

import hashlib
import heapq
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import get_args

import regex

from convbert.data_pipeline.segmentation import split_segments
from convbert.models.errors import UserError
from convbert.pretrain.pairs.pair import Pair
from convbert.pretrain.settings.evaluation import Corruption

CORRUPTIONS: tuple[Corruption, ...] = get_args(Corruption)

FEWEST_UNITS, MOST_UNITS = 6, 60
_WINDOW = 4  # units that ``shuffle`` rearranges
_LONGEST_WORD = 15  # mean length in characters beyond which text counts as written without spaces
_DONORS = 20_000  # units that ``replace`` draws from


@dataclass(frozen=True)
class _Sentence:
    """Units with the white space after each."""

    units: list[str]
    gaps: list[str]

    @classmethod
    def of(cls, text: str) -> "_Sentence":
        parts = regex.findall(r"(\S+)(\s*)", text)
        if len(text) > _LONGEST_WORD * max(1, len(parts)):
            parts = _clusters(text)
        return cls([unit for unit, _ in parts], [gap for _, gap in parts])

    def with_units(self, units: list[str]) -> str:
        """Return the text with other units in the places of these; there may be one less."""
        gaps = self.gaps[: len(units) - 1] + self.gaps[-1:]
        return "".join(unit + gap for unit, gap in zip(units, gaps, strict=True))


def _clusters(text: str) -> list[tuple[str, str]]:
    parts: list[tuple[str, str]] = []
    for cluster in regex.findall(r"\X", text):
        if cluster.isspace() and parts:
            unit, gap = parts[-1]
            parts[-1] = (unit, gap + cluster)
        else:
            parts.append((cluster, ""))
    return parts


def make_pairs(
    texts: Iterable[str], corruption: Corruption, count: int, *, seed: int = 0
) -> list[Pair]:
    """Return up to ``count`` pairs from sentences of ``texts``, each sentence at most once.

    Raises ``UserError`` where no sentence can be corrupted in this way.
    """
    chosen = _choose(texts, count, f"{corruption} {seed}")
    donors = _donors(chosen) if corruption == "replace" else []
    corrupt = _CORRUPTIONS[corruption]
    pairs = []
    for key, text in chosen:
        bad = corrupt(_Sentence.of(text), random.Random(key), donors)
        if bad is not None and bad != text:
            pairs.append(Pair(text, bad, corruption))
    if not pairs:
        raise UserError(
            f"no pairs: no sentence of {FEWEST_UNITS} to {MOST_UNITS} words in the text allows "
            f"'{corruption}'; give more text"
        )
    return pairs


def _choose(texts: Iterable[str], count: int, salt: str) -> list[tuple[int, str]]:
    """Return the ``count`` sentences with the smallest keyed hash, each with that as its key."""

    def keyed() -> Iterator[tuple[int, str]]:
        for text in texts:
            for sentence in split_segments(text):
                if FEWEST_UNITS <= len(_Sentence.of(sentence).units) <= MOST_UNITS:
                    digest = hashlib.blake2b(f"{salt}\0{sentence}".encode(), digest_size=8).digest()
                    yield int.from_bytes(digest), sentence

    return _smallest(keyed(), count)


def _smallest(entries: Iterable[tuple[int, str]], count: int) -> list[tuple[int, str]]:
    """Return the ``count`` smallest different entries; holds no more than these."""
    heap: list[tuple[int, str]] = []
    held: set[int] = set()
    for key, text in entries:
        if key in held or (len(heap) == count and -heap[0][0] <= key):
            continue
        if len(heap) == count:
            held.discard(-heapq.heappop(heap)[0])
        heapq.heappush(heap, (-key, text))
        held.add(key)
    return sorted((-key, text) for key, text in heap)


def _donors(chosen: list[tuple[int, str]]) -> list[str]:
    """Return inner units of the sentences, as often as they occur."""
    units = (unit for _, text in chosen for unit in _Sentence.of(text).units[1:-1])
    return [unit for unit, _ in zip(units, range(_DONORS), strict=False)]


def _differ(one: str, other: str) -> bool:
    return one.casefold() != other.casefold()


def _swap(sentence: _Sentence, rng: random.Random, donors: list[str]) -> str | None:
    units = sentence.units
    places = [i for i in range(1, len(units) - 2) if _differ(units[i], units[i + 1])]
    if not places:
        return None
    place = rng.choice(places)
    swapped = [*units[:place], units[place + 1], units[place], *units[place + 2 :]]
    return sentence.with_units(swapped)


def _delete(sentence: _Sentence, rng: random.Random, donors: list[str]) -> str | None:
    place = rng.randrange(1, len(sentence.units) - 1)
    return sentence.with_units(sentence.units[:place] + sentence.units[place + 1 :])


def _replace(sentence: _Sentence, rng: random.Random, donors: list[str]) -> str | None:
    place = rng.randrange(1, len(sentence.units) - 1)
    for _ in range(8):
        donor = rng.choice(donors)
        if _differ(donor, sentence.units[place]):
            return sentence.with_units(
                [*sentence.units[:place], donor, *sentence.units[place + 1 :]]
            )
    return None


def _shuffle(sentence: _Sentence, rng: random.Random, donors: list[str]) -> str | None:
    units = sentence.units
    start = rng.randrange(1, len(units) - _WINDOW)
    window = units[start : start + _WINDOW]
    mixed = rng.sample(window, _WINDOW)
    if not any(_differ(a, b) for a, b in zip(window, mixed, strict=True)):
        mixed = window[1:] + window[:1]
    if not any(_differ(a, b) for a, b in zip(window, mixed, strict=True)):
        return None
    return sentence.with_units([*units[:start], *mixed, *units[start + _WINDOW :]])


_CORRUPTIONS: dict[Corruption, Callable[[_Sentence, random.Random, list[str]], str | None]] = {
    "swap": _swap,
    "delete": _delete,
    "replace": _replace,
    "shuffle": _shuffle,
}
