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

# Below the usual limit of 1,024 open files.
_OPEN_SHARDS = 256


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
        self._open: OrderedDict[int, _OpenShard] = OrderedDict()

    def read(self, spans: Iterable[tuple[int, int]]) -> Rows:
        """Return the sequences of the runs ``[first, last)`` as one matrix [n, L].

        Raises ``UserError`` that names the shard for missing, cut or damaged files.
        """
        parts = [part for first, last in spans for part in self._run(first, last)]
        return np.concatenate(parts)

    def close(self) -> None:
        """Close all files."""
        for shard in self._open.values():
            shard.close()
        self._open.clear()

    def _run(self, first: int, last: int) -> list[Rows]:
        parts = []
        while first < last:
            number = int(np.searchsorted(self._starts, first, side="right")) - 1
            start, end = int(self._starts[number]), int(self._starts[number + 1])
            stop = min(last, end)
            parts += self._shard(number).read(first - start, stop - start)
            first = stop
        return parts

    def _shard(self, number: int) -> "_OpenShard":
        if number not in self._open:
            if len(self._open) >= _OPEN_SHARDS:
                self._open.popitem(last=False)[1].close()
            shard = self.manifest.shards[number]
            self._open[number] = _OpenShard(self.folder, shard, self._dtype, self.manifest.seq_len)
        self._open.move_to_end(number)
        return self._open[number]


class _OpenShard:
    """An open tar and the members that its index lists."""

    def __init__(
        self, folder: Path, shard: Shard, dtype: np.dtype[np.unsignedinteger], seq_len: int
    ) -> None:
        self.path = folder / shard.name
        self.members = load_index(folder, shard).members
        self.starts = np.cumsum([0, *(member.sequences for member in self.members)])
        self.dtype = dtype
        self.seq_len = seq_len
        try:
            self._file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise self._fault(f"cannot be opened ({error.strerror})") from None

    def close(self) -> None:
        os.close(self._file)

    def read(self, first: int, last: int) -> list[Rows]:
        """Return the sequences ``first`` to ``last`` of this shard, one part per member."""
        parts = []
        while first < last:
            number = int(np.searchsorted(self.starts, first, side="right")) - 1
            start, stop = int(self.starts[number]), min(last, int(self.starts[number + 1]))
            parts.append(self._member(self.members[number])[first - start : stop - start])
            first = stop
        return parts

    def _member(self, member: Member) -> Rows:
        start = member.offset - tarfile.BLOCKSIZE
        try:
            content = os.pread(self._file, tarfile.BLOCKSIZE + member.size, start)
        except OSError as error:
            raise self._fault(f"cannot be read ({error.strerror})") from None
        if len(content) != tarfile.BLOCKSIZE + member.size:
            raise self._fault(f"ends inside member {member.name}")
        self._check_header(content[: tarfile.BLOCKSIZE], member)
        payload = memoryview(content)[tarfile.BLOCKSIZE :]
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
