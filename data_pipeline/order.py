"""The training order: which sequence stands at a global position, computed, never stored.

The sequence at global position p is a pure function of (manifest digest, seed, p); the epoch is
``p // N``. World size, workers and prefetching do not enter it, so a run continues exactly on any
number of processes from the one number p. Inside an epoch the N sequences are cut into blocks, the
blocks are permuted, and the sequences of each window of permuted blocks are permuted among
themselves: one window is all a reader must hold. Permutations are keyed bijections (a Feistel
network with cycle walking), so nothing proportional to the corpus is materialised.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]

BLOCK = 512
WINDOW = 64
_ROUNDS = 6


def _key(*parts: object) -> int:
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _mix(x: NDArray[np.uint64], key: int) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014) of ``x + key``."""
    x = x + np.uint64(key)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def permute(values: Indices, size: int, key: int) -> Indices:
    """Apply the bijection of [0, size) that belongs to ``key`` to every value.

    A balanced Feistel network permutes the next power of four; values that fall outside [0, size)
    are sent through it again until they do not, which needs fewer than four rounds on average.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half) - 1)
    shift = np.uint64(half)
    keys = [_key(key, index) for index in range(_ROUNDS)]
    out = values.astype(np.uint64)
    todo = np.arange(out.size)
    while todo.size:
        x = out[todo]
        left, right = x >> shift, x & mask
        for k in keys:
            left, right = right, left ^ (_mix(right, k) & mask)
        out[todo] = (left << shift) | right
        todo = todo[out[todo] >= np.uint64(size)]
    return out.astype(np.int64)


@dataclass(frozen=True)
class Piece:
    """Positions of one window: ``rows`` index into the window's sequences."""

    epoch: int
    window: int
    rows: Indices


class GlobalOrder:
    """Order of ``size`` sequences under a manifest digest and a seed."""

    def __init__(
        self, digest: str, seed: int, size: int, *, block: int = BLOCK, window: int = WINDOW
    ) -> None:
        self.size = size
        self.block = block
        self.window = window
        self._base = (digest, seed, block, window)
        self._full = size // block

    def _number(self, *parts: object) -> int:
        return _key(*self._base, *parts)

    def windows(self) -> int:
        """Number of windows per epoch, the incomplete last block being one of its own."""
        complete = -(-self._full // self.window)
        return complete + (1 if self.size % self.block else 0)

    def _extent(self, window: int) -> tuple[int, int]:
        """Return the first in-epoch position of a window and its number of sequences."""
        start = window * self.window * self.block
        complete = self._full * self.block
        if start >= complete:
            return complete, self.size - complete
        return start, min(self.window * self.block, complete - start)

    def pieces(self, positions: Indices) -> list[Piece]:
        """Split ascending global positions by window; rows are already permuted."""
        epochs, inside = np.divmod(positions, self.size)
        complete = self._full * self.block
        last = -(-self._full // self.window)
        windows = np.where(inside < complete, inside // (self.window * self.block), last)
        changes = np.flatnonzero((np.diff(epochs) != 0) | (np.diff(windows) != 0)) + 1
        pieces = []
        for part in np.split(np.arange(positions.size), changes):
            epoch, window = int(epochs[part[0]]), int(windows[part[0]])
            start, count = self._extent(window)
            rows = permute(inside[part] - start, count, self._number("rows", epoch, window))
            pieces.append(Piece(epoch, window, rows))
        return pieces

    def spans(self, epoch: int, window: int) -> list[tuple[int, int]]:
        """List the runs ``[first, last)`` of stored sequences that make up a window, in order."""
        start, count = self._extent(window)
        offset = self._number("offset", epoch) % self.size
        if start >= self._full * self.block:
            firsts = np.array([start])
        else:
            slots = np.arange(start // self.block, (start + count) // self.block)
            firsts = permute(slots, self._full, self._number("blocks", epoch)) * self.block
        length = min(self.block, count)
        spans = []
        for first in ((firsts + offset) % self.size).tolist():
            spans.append((first, min(first + length, self.size)))
            if first + length > self.size:
                spans.append((0, first + length - self.size))
        return spans

    def sequences(self, positions: Indices) -> Indices:
        """Return the stored sequence at every global position; for tests and inspection."""
        found = []
        for piece in self.pieces(np.asarray(positions, dtype=np.int64)):
            spans = self.spans(piece.epoch, piece.window)
            stored = np.concatenate([np.arange(a, b) for a, b in spans])
            found.append(stored[piece.rows])
        return np.concatenate(found)
