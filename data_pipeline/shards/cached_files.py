"""Shards at an address, read block by block through the node's cache.

Only what is asked for travels: the index of a shard, and the blocks of a window by range requests,
all of them at once. So a run that reads a part of a large corpus fetches that part, and a
cache of any size serves a corpus of any size. What arrives is checked before it is kept: an index
by its SHA-256, which the manifest holds, a block by its CRC-32, which the index holds.
"""

import tarfile
from collections.abc import Sequence

from convbert.data_pipeline.shards.cache import BlockCache, Fetch
from convbert.data_pipeline.shards.files import OpenShard, member_fault
from convbert.data_pipeline.shards.manifest import (
    COPY_AGAIN,
    Member,
    Shard,
    check_index,
    index_name,
)
from convbert.data_pipeline.shards.remote import MissingError, fetch_ranges, size_of
from convbert.models.errors import DamagedError, UserError


class CachedFiles:
    """The shards beside the manifest at ``url``; ``group`` is the manifest's digest."""

    fetches = True

    def __init__(self, url: str, group: str, cache: BlockCache) -> None:
        self.base = url.rsplit("/", 1)[0]
        self.group = group
        self.cache = cache
        self.ready: dict[str, bytes | UserError] = {}

    def open(self, shard: Shard) -> OpenShard:
        """Read a shard's index; raises ``DamagedError`` if it is missing or of another build."""
        url = f"{self.base}/{index_name(shard.name)}"

        def fault(_: int, content: bytes) -> UserError | None:
            try:
                check_index(url, content, shard)
            except DamagedError as damage:
                return damage
            return None

        def fetch(keys: Sequence[str]) -> list[bytes | UserError]:
            return fetch_ranges([url], [(None, None)], fault)

        content = self._index(url, shard, fetch)
        if fault(0, content) is not None:
            self.cache.discard(shard.index_sha256)  # damaged here: fetched again, once
            content = self._index(url, shard, fetch)
        return _CachedShard(self, shard, check_index(url, content, shard).members)

    def _index(self, url: str, shard: Shard, fetch: Fetch) -> bytes:
        content = self.cache.get(self.group, [shard.index_sha256], fetch)[shard.index_sha256]
        if isinstance(content, MissingError):
            raise DamagedError(f"{url}: missing; copy it again or rebuild the shards")
        if isinstance(content, UserError):
            raise content
        return content

    def prepare(self, wanted: Sequence[tuple[OpenShard, Member]]) -> None:
        """Fetch the blocks that the cache does not hold, all at once."""
        self.ready = self._get(wanted)

    def fetch_one(self, shard: "_CachedShard", member: Member) -> bytes | UserError:
        """Return a block, or what is wrong with it."""
        key = shard.key(member)
        if key not in self.ready:
            self.ready |= self._get([(shard, member)])
        return self.ready.pop(key)

    def _get(self, wanted: Sequence[tuple[OpenShard, Member]]) -> dict[str, bytes | UserError]:
        places = {
            shard.key(member): (shard.place, member)
            for shard, member in wanted
            if isinstance(shard, _CachedShard)
        }

        def fetch(keys: Sequence[str]) -> list[bytes | UserError]:
            members = [places[key][1] for key in keys]

            def fault(number: int, content: bytes) -> UserError | None:
                return _fault(places[keys[number]][0], members[number], content)

            ranges = [(m.offset - tarfile.BLOCKSIZE, m.offset + m.size) for m in members]
            return fetch_ranges([places[key][0] for key in keys], ranges, fault)

        return self.cache.get(self.group, list(places), fetch)


def _fault(url: str, member: Member, content: bytes) -> DamagedError | None:
    if len(content) < tarfile.BLOCKSIZE + member.size:
        return DamagedError(f"{url}: ends inside member {member.name}; {COPY_AGAIN}")
    reason = member_fault(memoryview(content), member)
    return DamagedError(f"{url}: {reason}; {COPY_AGAIN}") if reason else None


class _CachedShard:
    """A shard whose blocks are fetched when they are asked for."""

    def __init__(self, files: CachedFiles, shard: Shard, members: list[Member]) -> None:
        self.place = f"{files.base}/{shard.name}"
        self.members = members
        self._files = files
        self._shard = shard

    def key(self, member: Member) -> str:
        """Name of a block in the cache: the index digest fixes what it must hold."""
        return f"{self._shard.index_sha256}-{member.name}"

    def content(self, member: Member) -> memoryview:
        """Return header and payload, fetched now unless ``prepare`` did."""
        content = self._files.fetch_one(self, member)
        if isinstance(content, MissingError):
            raise DamagedError(f"{self.place}: is missing; {COPY_AGAIN}")
        if isinstance(content, DamagedError):
            raise content
        if isinstance(content, UserError):
            size = size_of(self.place)  # some servers refuse a range behind the end
            if size is not None and size < member.offset + member.size:
                raise DamagedError(f"{self.place}: ends inside member {member.name}; {COPY_AGAIN}")
            raise content
        return memoryview(content)

    def renew(self, member: Member) -> bool:
        """Drop the cached copy; the next ``content`` is fetched."""
        self._files.cache.discard(self.key(member))
        return True

    def close(self) -> None:
        """Nothing is held."""
