"""The training order: which sequence stands at a global position, computed, never stored.

The sequence at global position p is a pure function of (manifest digest, seed, p); the epoch is
``p // N``. World size, workers and prefetching do not enter it, so a run continues exactly on any
number of processes from the one number p. In every epoch the stored blocks are permuted, and the
sequences of each window of consecutive permuted blocks are permuted among themselves: one window
is all a reader must hold, and whole blocks are all it must read. Permutations are keyed bijections
(a Feistel network with cycle walking), so nothing proportional to the corpus is materialized.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]

BLOCK = 512
WINDOW = 64
_ROUNDS = 6


def seed_of(*parts: object) -> int:
    """Return 64 bits that depend on all parts."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _mix(x: NDArray[np.uint64], key: int) -> NDArray[np.uint64]:
    """SplitMix64's finalizer (Steele, Lea and Flood 2014) of ``x + key``."""
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
    keys = [seed_of(key, index) for index in range(_ROUNDS)]
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
class BlockSlice:
    """Consecutive positions inside one window: its rows ``first`` to ``last``, excluded."""

    epoch: int
    window: int
    first: int
    last: int


class GlobalOrder:
    """Order of ``size`` sequences under a manifest digest and a seed.

    Sequences are stored in blocks of ``block``, the last of which may be short. Every epoch puts
    the short block at a slot of its own choice among the permuted full ones.
    """

    def __init__(
        self, digest: str, seed: int, size: int, *, block: int = BLOCK, window: int = WINDOW
    ) -> None:
        self.size = size
        self.block = block
        self.window = window
        self._base = (digest, seed, block, window)
        self._full, self._rest = divmod(size, block)
        self._blocks = self._full + (1 if self._rest else 0)

    def _number(self, *parts: object) -> int:
        return seed_of(*self._base, *parts)

    def windows(self) -> int:
        """Number of windows per epoch."""
        return -(-self._blocks // self.window)

    def _short_slot(self, epoch: int) -> int:
        """Return the slot of the short block; the slot after the last if no block is short."""
        return self._number("short", epoch) % self._blocks if self._rest else self._blocks

    def _start(self, epoch: int, window: int) -> int:
        """Return the first in-epoch position of a window, or the size for the one after all."""
        start = window * self.window * self.block
        if self._short_slot(epoch) < window * self.window:
            start -= self.block - self._rest
        return min(start, self.size)

    def extent(self, epoch: int, window: int) -> int:
        """Return the number of sequences in a window."""
        return self._start(epoch, window + 1) - self._start(epoch, window)

    def locate(self, position: int) -> tuple[int, int, int]:
        """Return (epoch, window, row in the window's order) of a global position."""
        epoch, inside = divmod(position, self.size)
        window = inside // (self.window * self.block)
        if inside >= self._start(epoch, window + 1):
            window += 1
        return epoch, window, inside - self._start(epoch, window)

    def pieces(self, first: int, last: int) -> list[BlockSlice]:
        """Split the global positions ``first`` to ``last``, excluded, by window."""
        found = []
        while first < last:
            epoch, window, row = self.locate(first)
            count = min(last - first, self.extent(epoch, window) - row)
            found.append(BlockSlice(epoch, window, row, row + count))
            first += count
        return found

    def spans(self, epoch: int, window: int) -> list[tuple[int, int]]:
        """List the runs ``[first, last)`` of stored sequences that a window consists of."""
        start = window * self.window
        slots = np.arange(start, min(start + self.window, self._blocks))
        short = self._short_slot(epoch)
        full = slots[slots != short]
        firsts = permute(full - (full > short), self._full, self._number("blocks", epoch))
        spans = [(int(b) * self.block, (int(b) + 1) * self.block) for b in firsts]
        if start <= short < start + len(slots):
            spans.insert(short - start, (self._full * self.block, self.size))
        return spans

    def shuffle(self, epoch: int, window: int) -> Indices:
        """Return, for every row of a window in training order, its place among the spans' rows."""
        count = self.extent(epoch, window)
        return permute(np.arange(count), count, self._number("rows", epoch, window))

    def sequences(self, first: int, last: int) -> Indices:
        """Return the stored sequence at every global position; for tests and inspection."""
        found = [np.empty(0, dtype=np.int64)]
        for piece in self.pieces(first, last):
            spans = self.spans(piece.epoch, piece.window)
            stored = np.concatenate([np.arange(a, b) for a, b in spans])
            rows = self.shuffle(piece.epoch, piece.window)[piece.first : piece.last]
            found.append(stored[rows])
        return np.concatenate(found)
