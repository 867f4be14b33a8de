"""Pack token sequences into rows of fixed length.

``electra`` builds ``[CLS] A [SEP]`` or ``[CLS] A [SEP] B [SEP]`` from consecutive segments of one
document and pads the rest, as ELECTRA's example builder does (Clark et al. 2020, released code),
with one difference: tokens that do not fit are carried into the next row. The original drops
them, 9 to 35 % of the text at length 128. ``full`` fills rows with pieces ``[CLS] piece [SEP]``
of as many documents as fit, so that nearly nothing is padding.
"""

import random
import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convbert.data_pipeline.manifest import Packing

Row = list[int]

SINGLE_SEGMENT, SHORT_TARGET, COIN = 0.1, 0.05, 0.5
_SENTENCE_END = re.compile(r"(?<=[.!?…。！？])[\"'”’)\]]*\s+")


@dataclass(frozen=True)
class RowFormat:
    """Length of a row and the ids that frame it."""

    seq_len: int
    pad_id: int
    cls_id: int
    sep_id: int


def split_segments(text: str) -> list[str]:
    """Split a document at line ends and after sentences: the units that a segment is made of."""
    lines = (line.strip() for line in text.splitlines())
    return [part for line in lines if line for part in _SENTENCE_END.split(line) if part]


def pack_electra(
    documents: Iterable[tuple[int, list[list[int]]]], rows: RowFormat, seed: int
) -> list[Row]:
    """Pack documents, given as (number, segments); the number keys the random choices."""
    packed: list[Row] = []
    for number, segments in documents:
        choice = random.Random(f"{seed}/{number}")
        left = deque(s for s in segments if s)
        while left:
            packed.append(_electra_row(left, rows, choice))
    return packed


def _electra_row(left: deque[list[int]], rows: RowFormat, choice: random.Random) -> Row:
    """Take one row off the front of ``left``."""
    length = rows.seq_len
    target = length if choice.random() >= SHORT_TARGET else choice.randint(5, length)
    single = choice.random() < SINGLE_SEGMENT
    if single:
        first = _take(left, max(1, target - 2))
        return [rows.cls_id, *first, rows.sep_id]
    first = _take_segments(left, max(1, (target - 3) // 2), length - 2, choice)
    row = [rows.cls_id, *first, rows.sep_id]
    room = min(target, length) - len(row) - 1
    if left and room > 0:
        row += [*_take(left, room), rows.sep_id]
    return row


def _take(left: deque[list[int]], count: int) -> list[int]:
    """Take up to ``count`` tokens; what is left of a cut segment stays in front."""
    taken: list[int] = []
    while left and len(taken) < count:
        segment = left.popleft()
        room = count - len(taken)
        taken += segment[:room]
        if segment[room:]:
            left.appendleft(segment[room:])
    return taken


def _take_segments(
    left: deque[list[int]], target: int, limit: int, choice: random.Random
) -> list[int]:
    """Take whole segments below ``target``; by a coin one more that reaches beyond it."""
    taken = _take(left, min(limit, len(left[0])))
    while left and len(taken) < target:
        fits = len(taken) + len(left[0]) < target
        if not fits and choice.random() >= COIN:
            break
        taken += _take(left, min(limit - len(taken), len(left[0])))
    return taken


def pack_full(
    documents: Iterable[tuple[int, list[list[int]]]], rows: RowFormat, seed: int
) -> list[Row]:
    """Fill rows with framed pieces of consecutive documents; only the last row has padding.

    A document longer than the room left is continued in the next row, framed again. Room for
    fewer than three tokens cannot hold a piece and is padded.
    """
    packed: list[Row] = []
    row: Row = []
    for _, segments in documents:
        tokens = [token for segment in segments for token in segment]
        while tokens:
            room = rows.seq_len - len(row) - 2
            if room < 1:
                packed.append(row)
                row = []
                continue
            row += [rows.cls_id, *tokens[:room], rows.sep_id]
            tokens = tokens[room:]
    if row:
        packed.append(row)
    return packed


PACKERS: dict[
    Packing, Callable[[Iterable[tuple[int, list[list[int]]]], RowFormat, int], list[Row]]
] = {"electra": pack_electra, "full": pack_full}


def to_array(packed: list[Row], rows: RowFormat) -> NDArray[np.uint32]:
    """Pad rows to a matrix [n, L]."""
    out = np.full((len(packed), rows.seq_len), rows.pad_id, dtype=np.uint32)
    for number, row in enumerate(packed):
        out[number, : len(row)] = row
    return out
