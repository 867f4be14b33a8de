"""Where the bytes of shards come from: a directory, or an address with a cache in front of it.

Both give the header and payload of a tar member; ``member_fault`` tells whether they are what the
shard's index says.
"""

import os
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from convbert.data_pipeline.shards.manifest import COPY_AGAIN, Member, Shard, load_index, unopened
from convbert.models.errors import DamagedError, TransientError


class OpenShard(Protocol):
    """A shard and the members that its index lists."""

    place: str
    members: list[Member]

    def content(self, member: Member) -> memoryview:
        """Return tar header and payload, valid until the next call.

        Raises ``DamagedError`` if they are missing or cut.
        """

    def renew(self, member: Member) -> bool:
        """Forget a copy that proved bad; False if ``content`` would give the same again."""

    def close(self) -> None:
        """Free what is held."""


class ShardFiles(Protocol):
    """The files that one manifest describes; ``fetches`` says that reading them takes a network."""

    fetches: bool

    def open(self, shard: Shard) -> OpenShard:
        """Open a shard; raises ``DamagedError`` if it or its index is missing or another's."""

    def prepare(self, wanted: Sequence[tuple[OpenShard, Member]]) -> None:
        """Fetch members together that are about to be asked for."""


def member_fault(content: memoryview, member: Member) -> str | None:
    """Say what is wrong with the header and payload of a member, if anything.

    For reading, payload and index would do; but with a damaged header plain tar readers see less
    than this one.
    """
    header = bytes(content[: tarfile.BLOCKSIZE])
    try:
        entry = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    except tarfile.HeaderError as error:
        return f"the tar header of {member.name} is damaged ({error})"
    if (entry.name, entry.size) != (member.name, member.size):
        return f"holds {entry.name} where its index has {member.name}"
    if zlib.crc32(content[tarfile.BLOCKSIZE :]) != member.crc32:
        return f"member {member.name} is damaged (CRC-32 differs from the index)"
    return None


class LocalFiles:
    """Shards in a directory, on a local disk or a shared file system."""

    fetches = False

    def __init__(self, manifest: Path) -> None:
        self.manifest = manifest
        self.scratch = _Scratch()

    def open(self, shard: Shard) -> OpenShard:
        """Open a tar; one that is missing beside its manifest is damage."""
        if not os.path.exists(self.manifest):  # also where a lost file system gives an error
            raise TransientError(f"{self.manifest}: is gone; check that its file system is mounted")
        return _LocalShard(self.manifest.parent, shard, self.scratch)

    def prepare(self, wanted: Sequence[tuple[OpenShard, Member]]) -> None:
        """Do nothing: the files are here."""


class _Scratch:
    """Memory used again and again: fresh memory for every block costs more than reading it."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def view(self, size: int) -> memoryview:
        """Return ``size`` bytes, the same ones every time."""
        if len(self._bytes) < size:
            self._bytes = bytearray(size)
        return memoryview(self._bytes)[:size]


class _LocalShard:
    """An open tar. It is read, not mapped: a file that shrinks is then an error, not a crash."""

    def __init__(self, folder: Path, shard: Shard, scratch: _Scratch) -> None:
        path = folder / shard.name
        self.place = str(path)
        self.members = load_index(folder, shard).members
        self._scratch = scratch
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise DamagedError(
                f"{path}: cannot be opened ({error.strerror}); {COPY_AGAIN}"
            ) from None
        except OSError as error:
            raise unopened(path, error) from None

    def content(self, member: Member) -> memoryview:
        """Read header and payload at once."""
        size = tarfile.BLOCKSIZE + member.size
        content = self._scratch.view(size)
        try:
            count = os.preadv(self._file, [content], member.offset - tarfile.BLOCKSIZE)
        except OSError as error:
            raise TransientError(
                f"{self.place}: cannot be read ({error.strerror}); start again, or {COPY_AGAIN}"
            ) from None
        if count != size:
            raise DamagedError(f"{self.place}: ends inside member {member.name}; {COPY_AGAIN}")
        return content

    def renew(self, member: Member) -> bool:
        """There is no other copy."""
        return False

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
