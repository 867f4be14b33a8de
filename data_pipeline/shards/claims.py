"""Compare what a manifest says of its rows with the rows, and with the tokenizer."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from convbert.data_pipeline.shards.manifest import Manifest
from convbert.data_pipeline.shards.writer import token_dtype

Claim = Literal[
    "tokenizer_digest", "vocab_size", "pad_id", "cls_id", "sep_id", "packing", "num_tokens"
]
Rows = NDArray[np.unsignedinteger]
_Mask = NDArray[np.bool_]
_Finding = tuple[Claim, _Mask, Callable[[int], str]]  # field, rows against it, what a row shows
_MOST_SEGMENTS = 2  # of a row of ELECTRA's: A and B


class KnownTokenizer(Protocol):
    """What a tokenizer says of itself."""

    digest: str
    vocab_size: int
    pad_id: int
    cls_id: int
    sep_id: int


def refuted(manifest: Manifest, rows: Rows) -> Iterator[tuple[Claim, int, str]]:
    """Yield the fields that rows [n, L] contradict, the first row that does, and what it shows.

    Text never has the ids of special tokens: tokenizers do not produce them from text.
    """
    wrong = False
    for name, bad, says in (
        _beyond(manifest, rows),
        _beginnings(manifest, rows),
        _endings(manifest, rows),
    ):
        if bad.any():
            wrong = True
            number = int(bad.argmax())
            yield name, number, says(number)
    if not wrong:  # else the marks of segments would be sought with wrong ids
        bad = _strangers(manifest, rows)
        if bad.any():
            number = int(bad.argmax())
            begins = int((rows[number] == manifest.cls_id).sum())
            ends = int((rows[number] == manifest.sep_id).sum())
            yield "packing", number, f"has {begins} [CLS] and {ends} [SEP] where none belong so"


def _beyond(manifest: Manifest, rows: Rows) -> _Finding:
    if rows.dtype != token_dtype(manifest.vocab_size):
        return "vocab_size", np.ones(len(rows), bool), lambda _: f"is of {rows.dtype}"
    bad = np.asarray((rows >= manifest.vocab_size).any(axis=1))
    return "vocab_size", bad, lambda number: f"holds id {rows[number].max()}"


def _beginnings(manifest: Manifest, rows: Rows) -> _Finding:
    bad = rows[:, 0] != manifest.cls_id
    return "cls_id", bad, lambda number: f"begins with id {rows[number, 0]}"


def _endings(manifest: Manifest, rows: Rows) -> _Finding:
    """Find rows that do not end with [SEP] and then nothing but padding."""
    last, padding = rows[:, -1], rows == manifest.pad_id
    stray = (last != manifest.pad_id) & (last != manifest.sep_id)
    if stray.any():
        # Padding comes in runs, [SEP] does not; and if other rows end with [SEP], that id is right.
        runs = (rows[stray, -1] == rows[stray, -2]).any()
        known = manifest.sep_id != manifest.pad_id and (last == manifest.sep_id).any()
        name: Claim = "pad_id" if runs or known else "sep_id"
        return name, stray, lambda number: f"ends with id {last[number]}"
    inside = (padding[:, :-1] & ~padding[:, 1:]).any(axis=1)
    if inside.any():
        return "pad_id", inside, lambda _: "has that id before other tokens"
    ends = rows[np.arange(len(rows)), np.maximum((~padding).sum(axis=1) - 1, 0)]
    unclosed = ends != manifest.sep_id
    return "sep_id", unclosed, lambda number: f"ends with id {ends[number]} before the padding"


def _strangers(manifest: Manifest, rows: Rows) -> _Mask:
    """Mark rows with [CLS] and [SEP] where the packing has none."""
    begins, ends = rows == manifest.cls_id, rows == manifest.sep_id
    if manifest.packing == "electra":
        many = ends.sum(axis=1) > _MOST_SEGMENTS
        return np.asarray((begins.sum(axis=1) != 1) | many)
    goes_on = ~begins[:, 1:] & (rows[:, 1:] != manifest.pad_id)
    return np.asarray(((begins[:, 1:] & ~ends[:, :-1]) | (ends[:, :-1] & goes_on)).any(axis=1))


@dataclass
class Evidence:
    """What the blocks of shards show: their tokens, and the fields that they contradict."""

    sequences: int = 0
    tokens: int = 0
    blocks: int = 0
    against: dict[Claim, tuple[str, int]] = field(default_factory=dict)  # the first; blocks

    def add(self, manifest: Manifest, place: str, rows: Rows) -> None:
        """Examine a block of rows [n, L]; ``place`` names it."""
        self.sequences += len(rows)
        self.tokens += int(np.count_nonzero(rows != manifest.pad_id))
        self.blocks += 1
        for name, number, shows in refuted(manifest, rows):
            self._note(name, f"row {number} of {place} {shows}", 1)

    def join(self, other: "Evidence") -> None:
        """Add what later blocks show."""
        self.sequences += other.sequences
        self.tokens += other.tokens
        self.blocks += other.blocks
        for name, (shows, blocks) in other.against.items():
            self._note(name, shows, blocks)

    def _note(self, name: Claim, shows: str, blocks: int) -> None:
        first, count = self.against.get(name, (shows, 0))
        self.against[name] = first, count + blocks

    def contradictions(
        self, manifest: Manifest, tokenizer: KnownTokenizer | None
    ) -> Iterator[tuple[Claim, str]]:
        """Yield each field that is wrong, with the proof; the tokenizer's word comes first."""
        proven = dict(_against_tokenizer(manifest, tokenizer) if tokenizer else ())
        wrong = dict(proven)
        for name, (shows, blocks) in self.against.items():
            said = f"says {name} {getattr(manifest, name)}, but {shows}"
            wrong.setdefault(name, f"{said} ({blocks:,} of {self.blocks:,} blocks are like that)")
        if "pad_id" in self.against and "sep_id" not in proven:
            wrong.pop("sep_id", None)  # where a row ends cannot be told before padding is known
        complete = self.sequences == manifest.num_sequences
        if complete and "pad_id" not in wrong and self.tokens != manifest.num_tokens:
            wrong["num_tokens"] = (
                f"says num_tokens {manifest.num_tokens}, its shards hold {self.tokens}"
            )
        yield from wrong.items()


def _against_tokenizer(
    manifest: Manifest, tokenizer: KnownTokenizer
) -> Iterator[tuple[Claim, str]]:
    claims: dict[Claim, tuple[str | int, str | int]] = {
        "tokenizer_digest": (manifest.tokenizer_digest, tokenizer.digest),
        "vocab_size": (manifest.vocab_size, tokenizer.vocab_size),
        "pad_id": (manifest.pad_id, tokenizer.pad_id),
        "cls_id": (manifest.cls_id, tokenizer.cls_id),
        "sep_id": (manifest.sep_id, tokenizer.sep_id),
    }
    for name, (said, known) in claims.items():
        if said != known:
            yield name, f"says {name} {said}, the tokenizer has {known}"
