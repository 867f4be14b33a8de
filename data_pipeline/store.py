"""Random access to the stored sequences of a shard set, checked as they are read."""

import os
import tarfile
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convbert.data_pipeline.manifest import Manifest, Member, Shard, load_index
from convbert.data_pipeline.shards import token_dtype
from convbert.models.errors import UserError

Rows = NDArray[np.unsignedinteger]

# Each holds its index, about 1.5 MB for a shard of 256 MB.
_OPEN_SHARDS = 64


class SequenceStore:
    """Sequences by number, in the order in which they were written.

    Members are read whole, because their CRC-32 is checked on every read: page caches, disks and
    network file systems do damage data, and the check costs a fraction of the reading. A file is
    read, not mapped: a file that shrinks is then an error with a name instead of a crash.
    """

    def __init__(self, manifest: Manifest, folder: Path) -> None:
        self.manifest = manifest
        self.folder = folder
        self._starts = np.cumsum([0, *(shard.sequences for shard in manifest.shards)])
        self._dtype = token_dtype(manifest.vocab_size)
        self._scratch = _Scratch()
        self._open: OrderedDict[int, _OpenShard] = OrderedDict()

    def read(self, spans: Iterable[tuple[int, int]]) -> Rows:
        """Return the sequences of the runs ``[first, last)`` as one matrix [n, L].

        Raises ``UserError`` that names the shard for missing, cut or damaged files.
        """
        runs = list(spans)
        rows = np.empty(
            (sum(last - first for first, last in runs), self.manifest.seq_len), self._dtype
        )
        filled = 0
        for first, last in runs:
            self._fill(rows[filled : filled + last - first], first)
            filled += last - first
        return rows

    def close(self) -> None:
        """Close all files."""
        for shard in self._open.values():
            shard.close()
        self._open.clear()

    def _fill(self, rows: Rows, first: int) -> None:
        """Copy sequences from number ``first`` on into ``rows``."""
        filled = 0
        while filled < len(rows):
            number = int(np.searchsorted(self._starts, first + filled, side="right")) - 1
            start = first + filled - int(self._starts[number])
            filled += self._shard(number).fill(rows[filled:], start)

    def _shard(self, number: int) -> "_OpenShard":
        if number not in self._open:
            if len(self._open) >= _OPEN_SHARDS:
                self._open.popitem(last=False)[1].close()
            shard = self.manifest.shards[number]
            self._open[number] = _OpenShard(
                self.folder, shard, self._dtype, self.manifest.seq_len, self._scratch
            )
        self._open.move_to_end(number)
        return self._open[number]


class _Scratch:
    """Memory used again and again: fresh memory for every block costs more than reading it."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def view(self, size: int) -> memoryview:
        """Return ``size`` bytes, the same ones every time."""
        if len(self._bytes) < size:
            self._bytes = bytearray(size)
        return memoryview(self._bytes)[:size]


class _OpenShard:
    """An open tar and the members that its index lists."""

    def __init__(
        self,
        folder: Path,
        shard: Shard,
        dtype: np.dtype[np.unsignedinteger],
        seq_len: int,
        scratch: _Scratch,
    ) -> None:
        self.path = folder / shard.name
        self.members = load_index(folder, shard).members
        self.starts = np.cumsum([0, *(member.sequences for member in self.members)])
        self.dtype = dtype
        self.seq_len = seq_len
        self._scratch = scratch
        try:
            self._file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise self._fault(f"cannot be opened ({error.strerror})") from None

    def close(self) -> None:
        os.close(self._file)

    def fill(self, rows: Rows, first: int) -> int:
        """Copy sequences from ``first`` on into ``rows``, to its or the shard's end; count them."""
        filled = 0
        while filled < len(rows) and first + filled < self.starts[-1]:
            number = int(np.searchsorted(self.starts, first + filled, side="right")) - 1
            found = self._member(self.members[number])[first + filled - self.starts[number] :]
            count = min(len(found), len(rows) - filled)
            rows[filled : filled + count] = found[:count]
            filled += count
        return filled

    def _member(self, member: Member) -> Rows:
        """Return a checked member; the next call overwrites it."""
        size = tarfile.BLOCKSIZE + member.size
        content = self._scratch.view(size)
        try:
            count = os.preadv(self._file, [content], member.offset - tarfile.BLOCKSIZE)
        except OSError as error:
            raise self._fault(f"cannot be read ({error.strerror})") from None
        if count != size:
            raise self._fault(f"ends inside member {member.name}")
        self._check_header(bytes(content[: tarfile.BLOCKSIZE]), member)
        payload = content[tarfile.BLOCKSIZE :]
        if zlib.crc32(payload) != member.crc32:
            raise self._fault(f"member {member.name} is damaged (CRC-32 differs from the index)")
        # The array is all that follows the .npy header, whose length the sizes give.
        header = member.size - member.sequences * self.seq_len * self.dtype.itemsize
        return np.frombuffer(payload, self.dtype, offset=header).reshape(-1, self.seq_len)

    def _check_header(self, header: bytes, member: Member) -> None:
        """The index alone would do, but then plain tar readers see less than this one."""
        try:
            entry = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
        except tarfile.HeaderError as error:
            raise self._fault(f"the tar header of {member.name} is damaged ({error})") from None
        if (entry.name, entry.size) != (member.name, member.size):
            raise self._fault(f"holds {entry.name} where its index has {member.name}")

    def _fault(self, what: str) -> UserError:
        return UserError(f"{self.path}: {what}; copy the shard again or rebuild the shards")
