"""Merge shard sets into one, and split one into parts, without encoding anything again.

Whole shards are taken over as hard links (copies where the file system has none); only a shard that
a cut goes through is written anew, and one whose first or last member has the name of another's
last or first is copied with new names: webdataset groups neighbors of one name to a sample. Results
are verified against their digests before they appear.
"""

import hashlib
import math
import os
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from convbert.data_pipeline.atomic import atomic_directory, naming, require_vacant
from convbert.data_pipeline.shards.manifest import (
    COPY_AGAIN,
    Manifest,
    Member,
    Shard,
    ShardIndex,
    index_name,
    load_index,
    manifest_path,
)
from convbert.data_pipeline.shards.sources import require_alike
from convbert.data_pipeline.shards.store import SequenceStore
from convbert.data_pipeline.shards.verify import verify_shards
from convbert.data_pipeline.shards.writer import MEMBER_SEQUENCES, ShardWriter, member_name
from convbert.models.errors import UserError

_READ_AT_ONCE = 64 * MEMBER_SEQUENCES


def merge_shards(places: Sequence[Path], folder: Path) -> Manifest:
    """Write one set with the sequences of all, in the order given; return its manifest.

    Raises ``UserError`` for sets that differ in tokenizer, length or packing, or are damaged, and
    if ``folder`` holds anything; nothing is left behind then.
    """
    require_vacant(folder)
    paths = [_local(place) for place in places]
    manifests = [Manifest.load(path) for path in paths]
    for path, manifest in zip(paths[1:], manifests[1:], strict=True):
        require_alike(str(paths[0]), manifests[0], str(path), manifest)
    documents = [m.num_documents for m in manifests if m.num_documents is not None]
    with naming(folder), atomic_directory(folder) as temporary:
        parts = _Assembly(temporary)
        for path, manifest in zip(paths, manifests, strict=True):
            for shard in manifest.shards:
                parts.adopt(path.parent, shard)
        return parts.finish(
            manifests[0],
            num_documents=sum(documents) if len(documents) == len(manifests) else None,
            num_tokens=sum(manifest.num_tokens for manifest in manifests),
            build={"merged": [manifest.digest for manifest in manifests]},
        )


def split_shards(place: Path, folder: Path, shares: Sequence[float]) -> list[Manifest]:
    """Write consecutive parts of a set to ``folder/part-0`` and so on; return their manifests.

    Cuts lie at the multiple of 512 sequences nearest to the shares, so that blocks stay whole. The
    number of documents of a part is not known. Raises ``UserError`` for shares that leave a part
    empty, for damaged shards, and if ``folder`` holds anything.
    """
    require_vacant(folder)
    path = _local(place)
    manifest = Manifest.load(path)
    cuts = _cuts(manifest.num_sequences, shares)
    store = SequenceStore(manifest, path.parent)
    done = []
    with naming(folder), atomic_directory(folder) as temporary:
        for number, (first, last) in enumerate(pairwise(cuts)):
            target = temporary / f"part-{number}"
            target.mkdir()
            parts = _Assembly(target)
            for shard, low, high in _overlaps(manifest, first, last):
                if high - low == shard.sequences:
                    parts.adopt(path.parent, shard)
                else:
                    parts.write(manifest, store.read([(low, high)]))
            part = parts.finish(
                manifest,
                num_documents=None,
                num_tokens=_count_tokens(store, first, last),
                build={"part": [first, last], "of": manifest.digest},
            )
            done.append(part)
    store.close()
    return done


def _local(place: Path) -> Path:
    path = manifest_path(place)
    if isinstance(path, str):
        raise UserError(f"{path}: merging and splitting need shards on a disk; copy them first")
    return path


def _cuts(size: int, shares: Sequence[float]) -> list[int]:
    if not all(0 < share < math.inf for share in shares):
        listed = " ".join(f"{share:g}" for share in shares)
        raise UserError(f"shares {listed}: not all are positive numbers; give such")
    total = sum(shares)
    ends = np.cumsum([0.0, *shares]) / total * size
    cuts = [round(float(end) / MEMBER_SEQUENCES) * MEMBER_SEQUENCES for end in ends[:-1]]
    cuts.append(size)
    if any(first >= last for first, last in pairwise(cuts)):
        listed = " ".join(f"{share:g}" for share in shares)
        raise UserError(
            f"shares {listed}: leave a part of {size:,} sequences without a block of "
            f"{MEMBER_SEQUENCES}; give fewer or larger parts"
        )
    return cuts


def _overlaps(manifest: Manifest, first: int, last: int) -> Iterator[tuple[Shard, int, int]]:
    """Yield the shards that hold sequences of ``first`` to ``last``, and which of these."""
    start = 0
    for shard in manifest.shards:
        low, high = max(first, start), min(last, start + shard.sequences)
        if low < high:
            yield shard, low, high
        start += shard.sequences


def _count_tokens(store: SequenceStore, first: int, last: int) -> int:
    count = 0
    for start in range(first, last, _READ_AT_ONCE):
        rows = store.read([(start, min(start + _READ_AT_ONCE, last))])
        count += int(np.count_nonzero(rows != store.manifest.pad_id))
    return count


class _Assembly:
    """A new shard set made of shards of others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shards: list[Shard] = []
        self._origins: dict[str, Path] = {}
        self._firsts: set[str] = set()
        self._lasts: set[str] = set()
        self._next_member = 0

    def adopt(self, folder: Path, shard: Shard) -> None:
        """Take over a whole shard under the next number."""
        name = f"shard-{len(self.shards):06d}.tar"
        members = load_index(folder, shard).members
        named = self._named(members)
        content = ShardIndex(shard=name, members=named).model_dump_json(indent=1).encode() + b"\n"
        (self.folder / index_name(name)).write_bytes(content)
        try:
            if named == members:
                _link_or_copy(folder / shard.name, self.folder / name)
            else:
                digest = _copy_renamed(folder / shard.name, shard, self.folder / name, named)
                shard = shard.model_copy(update={"sha256": digest})
        except OSError as error:
            raise UserError(
                f"{folder / shard.name}: cannot be taken over ({error.strerror}), nothing is kept; "
                "check both directories"
            ) from None
        self._origins[name] = folder / shard.name
        digest = hashlib.sha256(content).hexdigest()
        self.shards.append(shard.model_copy(update={"name": name, "index_sha256": digest}))

    def _named(self, members: list[Member]) -> list[Member]:
        """Return the members, under new names where they could follow one of the same name."""
        first, last = members[0].name, members[-1].name
        if first in self._lasts or last in self._firsts:
            numbers = range(self._next_member, self._next_member + len(members))
            members = [
                member.model_copy(update={"name": member_name(number)})
                for number, member in zip(numbers, members, strict=True)
            ]
        self._firsts.add(members[0].name)
        self._lasts.add(members[-1].name)
        number = int(members[-1].name.removesuffix(".npy"))
        self._next_member = max(self._next_member, number + 1)
        return members

    def write(self, manifest: Manifest, rows: np.ndarray[Any, Any]) -> None:
        """Write rows as a shard under the next number."""
        scratch = self.folder / "scratch"
        scratch.mkdir()
        limit = 2 * rows.nbytes + (1 << 20)  # one shard
        with ShardWriter(scratch, manifest.seq_len, manifest.vocab_size, limit) as writer:
            writer.write(rows)
        for shard in writer.shards:
            self.adopt(scratch, shard)
        shutil.rmtree(scratch)

    def finish(self, like: Manifest, **counts: Any) -> Manifest:
        """Write and verify the manifest of all shards; raises ``UserError`` for a damaged one."""
        sequences = sum(shard.sequences for shard in self.shards)
        changes = {"num_sequences": sequences, "shards": self.shards, **counts}
        manifest = Manifest(**{**like.model_dump(), **changes})
        manifest.save(self.folder / "manifest.json")
        for fault in verify_shards(self.folder):
            where = self._origins.get(fault.shard, fault.shard)
            raise UserError(f"{where}: {fault.detail}; {fault.remedy}")
        return manifest


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _copy_renamed(source: Path, shard: Shard, target: Path, members: list[Member]) -> str:
    """Copy a tar under other names of its members; return the SHA-256 of the copy.

    Raises ``UserError`` for a damaged tar, whose damage the new digest would hide.
    """
    shutil.copyfile(source, target)
    with target.open("r+b") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != shard.sha256:
            raise UserError(f"{source}: its SHA-256 is not the manifest's; {COPY_AGAIN}")
        for member in members:
            file.seek(member.offset - tarfile.BLOCKSIZE)
            header = file.read(tarfile.BLOCKSIZE)
            entry = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
            entry.name = member.name
            file.seek(member.offset - tarfile.BLOCKSIZE)
            file.write(entry.tobuf(tarfile.USTAR_FORMAT))
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()
