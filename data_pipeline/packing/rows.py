"""Pack token sequences into rows of fixed length.

``electra`` builds ``[CLS] A [SEP]`` or ``[CLS] A [SEP] B [SEP]`` from consecutive segments of one
document and pads the rest, as ELECTRA's example builder does (Clark et al. 2020, released code),
with two differences. Tokens that do not fit are carried into the next row; the original drops
them, 9 to 35 % of the text at length 128. And a document is read in order: the original may move a
short line that follows a long one from segment B to the end of A.

``full`` fills rows with pieces ``[CLS] piece [SEP]`` of as many documents as fit, so that nearly
nothing is padding.
"""

import random
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import accumulate, chain

import numpy as np
from numpy.typing import NDArray

from convbert.data_pipeline.shards.manifest import Packing

Row = list[int]
Documents = Iterable[tuple[int, list[list[int]]]]

# [CLS] A [SEP] B [SEP] with a few tokens; a shorter row could hold none and packing would not end.
SHORTEST_ROW = 8
# A block of 512 rows is held at once: 128 MiB.
LONGEST_ROW = 1 << 16
SINGLE_SEGMENT, SHORT_TARGET, COIN = 0.1, 0.05, 0.5


@dataclass(frozen=True)
class RowFormat:
    """Length of a row and the ids that frame it."""

    seq_len: int
    pad_id: int
    cls_id: int
    sep_id: int


def pack_electra(documents: Documents, rows: RowFormat, seed: int) -> list[Row]:
    """Pack documents, given as (number, segments); the number keys the random choices."""
    packed: list[Row] = []
    for number, segments in documents:
        tokens = list(chain.from_iterable(segments))
        ends = list(accumulate(map(len, filter(None, segments))))
        choice = random.Random(f"{seed}/{number}")
        position = 0
        while position < len(tokens):
            middle, end = _electra_cuts(position, ends, rows.seq_len, choice)
            row = [rows.cls_id, *tokens[position:middle], rows.sep_id]
            if end > middle:
                row += [*tokens[middle:end], rows.sep_id]
            packed.append(row)
            position = end
    return packed


def _electra_cuts(
    position: int, ends: list[int], length: int, choice: random.Random
) -> tuple[int, int]:
    """Return where segment A of the row that starts at ``position`` ends, and where the row does.

    One row in twenty aims at a random shorter length, one in ten has a single segment.
    """
    target = length if choice.random() >= SHORT_TARGET else choice.randint(5, length)
    if choice.random() < SINGLE_SEGMENT:
        end = min(position + max(1, target - 2), ends[-1])
        return end, end
    reach = _first_segment(position, ends, max(1, (target - 3) // 2), choice)
    middle = min(reach, position + length - 2)
    room = target - 3 - (middle - position)
    return middle, min(middle + max(0, room), ends[-1])


def _first_segment(position: int, ends: list[int], target: int, choice: random.Random) -> int:
    """Take one segment, then more while below ``target``; by a coin one that reaches beyond."""
    index = bisect_right(ends, position)
    while index + 1 < len(ends) and ends[index] - position < target:
        if ends[index + 1] - position >= target and choice.random() >= COIN:
            break
        index += 1
    return ends[index]


def pack_full(documents: Documents, rows: RowFormat, seed: int) -> list[Row]:
    """Fill rows with framed pieces of consecutive documents; only the last row has padding.

    A document longer than the room left is continued in the next row, framed again. Room for
    fewer than three tokens cannot hold a piece and is padded.
    """
    packed: list[Row] = []
    row: Row = []
    for _, segments in documents:
        tokens = list(chain.from_iterable(segments))
        position = 0
        while position < len(tokens):
            room = rows.seq_len - len(row) - 2
            if room < 1:
                packed.append(row)
                row = []
                continue
            row += [rows.cls_id, *tokens[position : position + room], rows.sep_id]
            position += room
    if row:
        packed.append(row)
    return packed


PACKERS: dict[Packing, Callable[[Documents, RowFormat, int], list[Row]]] = {
    "electra": pack_electra,
    "full": pack_full,
}


def to_array(packed: list[Row], rows: RowFormat) -> NDArray[np.uint32]:
    """Pad rows to a matrix [n, L]."""
    out = np.full((len(packed), rows.seq_len), rows.pad_id, dtype=np.uint32)
    for number, row in enumerate(packed):
        out[number, : len(row)] = row
    return out
