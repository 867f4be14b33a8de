"""Random access to the stored sequences of a shard set, checked as they are read."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convbert.data_pipeline.shards.files import (
    LocalFiles,
    OpenShard,
    ShardFiles,
    member_fault,
)
from convbert.data_pipeline.shards.manifest import COPY_AGAIN, Manifest, Member
from convbert.data_pipeline.shards.writer import token_dtype
from convbert.models.errors import DamagedError

Rows = NDArray[np.unsignedinteger]
Span = tuple[int, int]
# Puts rows in the place of a damaged span: the rows to fill, the span, what was wrong with it.
Replace = Callable[[Rows, Span, DamagedError], None]

# Each holds its index, about 1.5 MB for a shard of 256 MB.
_OPEN_SHARDS = 64


class SequenceStore:
    """Sequences by number, in the order in which they were written.

    Members are read whole, because their CRC-32 is checked on every read: page caches, disks and
    network file systems do damage data, and the check costs a fraction of the reading. ``files``
    is the folder of the shards unless they lie elsewhere.
    """

    def __init__(self, manifest: Manifest, files: ShardFiles | Path) -> None:
        self.manifest = manifest
        if isinstance(files, Path):
            files = LocalFiles(files / "manifest.json")
        self._files = files
        self._starts = np.cumsum([0, *(shard.sequences for shard in manifest.shards)])
        self._dtype = token_dtype(manifest.vocab_size)
        self._open: OrderedDict[int, _Reader] = OrderedDict()

    def read(self, spans: Iterable[Span], replace: Replace | None = None) -> Rows:
        """Return the sequences of the runs ``[first, last)`` as one matrix [n, L].

        Raises ``DamagedError`` that names the shard for missing, cut or damaged files, unless
        ``replace`` fills the rows of such a run; ``UserError`` for files that cannot be read.
        """
        runs = list(spans)
        self.prepare(runs)
        rows = np.empty(
            (sum(last - first for first, last in runs), self.manifest.seq_len), self._dtype
        )
        filled = 0
        for first, last in runs:
            part = rows[filled : filled + last - first]
            try:
                self._fill(part, first)
            except DamagedError as damage:
                if replace is None:
                    raise
                replace(part, (first, last), damage)
            filled += last - first
        return rows

    @property
    def fetches(self) -> bool:
        """Whether reading takes a network."""
        return self._files.fetches

    def prepare(self, spans: Sequence[Span]) -> None:
        """Fetch what the runs need, where reading takes a network; damage is left for ``read``."""
        if not self.fetches:
            return
        wanted: list[tuple[OpenShard, Member]] = []
        for first, last in spans:
            try:
                wanted += self._members(first, last)
            except DamagedError:
                continue
        self._files.prepare(wanted)

    def close(self) -> None:
        """Close all files."""
        for reader in self._open.values():
            reader.shard.close()
        self._open.clear()

    def _members(self, first: int, last: int) -> list[tuple[OpenShard, Member]]:
        """List the members that hold the sequences ``first`` to ``last``, excluded."""
        found: list[tuple[OpenShard, Member]] = []
        while first < last:
            number = self._number(first)
            start, end = int(self._starts[number]), int(self._starts[number + 1])
            reader = self._reader(number)
            found += reader.members(first - start, min(last, end) - start)
            first = end
        return found

    def _fill(self, rows: Rows, first: int) -> None:
        """Copy sequences from number ``first`` on into ``rows``."""
        filled = 0
        while filled < len(rows):
            number = self._number(first + filled)
            start = first + filled - int(self._starts[number])
            filled += self._reader(number).fill(rows[filled:], start)

    def _number(self, sequence: int) -> int:
        return int(np.searchsorted(self._starts, sequence, side="right")) - 1

    def _reader(self, number: int) -> "_Reader":
        if number not in self._open:
            if len(self._open) >= _OPEN_SHARDS:
                self._open.popitem(last=False)[1].shard.close()
            shard = self._files.open(self.manifest.shards[number])
            self._open[number] = _Reader(shard, self._dtype, self.manifest)
        self._open.move_to_end(number)
        return self._open[number]


class _Reader:
    """Rows out of an open shard."""

    def __init__(
        self, shard: OpenShard, dtype: np.dtype[np.unsignedinteger], manifest: Manifest
    ) -> None:
        self.shard = shard
        self.dtype = dtype
        self.seq_len = manifest.seq_len
        self.vocab_size = manifest.vocab_size
        self._starts = np.cumsum([0, *(member.sequences for member in shard.members)])

    def members(self, first: int, last: int) -> list[tuple[OpenShard, Member]]:
        """List the members that hold the shard's sequences ``first`` to ``last``, excluded."""
        start = int(np.searchsorted(self._starts, first, side="right")) - 1
        end = int(np.searchsorted(self._starts, last, side="left"))
        return [(self.shard, member) for member in self.shard.members[start:end]]

    def fill(self, rows: Rows, first: int) -> int:
        """Copy sequences from ``first`` on into ``rows``, to its or the shard's end; count them."""
        filled = 0
        while filled < len(rows) and first + filled < self._starts[-1]:
            number = int(np.searchsorted(self._starts, first + filled, side="right")) - 1
            found = self._rows(self.shard.members[number])[first + filled - self._starts[number] :]
            count = min(len(found), len(rows) - filled)
            rows[filled : filled + count] = found[:count]
            filled += count
        return filled

    def _rows(self, member: Member) -> Rows:
        """Return a checked member; the next call may overwrite it."""
        content = self.shard.content(member)
        fault = member_fault(content, member)
        if fault and self.shard.renew(member):
            content = self.shard.content(member)
            fault = member_fault(content, member)
        if fault:
            raise DamagedError(f"{self.shard.place}: {fault}; {COPY_AGAIN}")
        # The array is all that follows the tar's and the .npy header, whose length the sizes give.
        array = member.sequences * self.seq_len * self.dtype.itemsize
        rows = np.frombuffer(content, self.dtype, offset=len(content) - array)
        if rows.size and (highest := int(rows.max())) >= self.vocab_size:
            raise DamagedError(
                f"{self.shard.place}: member {member.name} holds the id {highest}, but the "
                f"manifest says vocab_size {self.vocab_size}; `convbert shards verify` compares "
                "them, then build the shards again"
            )
        return rows.reshape(-1, self.seq_len)
