"""Check a shard set against its manifest, completely and in parallel."""

import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from convbert.data_pipeline.shards.claims import Claim, Evidence, KnownTokenizer, Rows
from convbert.data_pipeline.shards.manifest import (
    Manifest,
    Member,
    Shard,
    ShardIndex,
    index_name,
    load_index,
    manifest_path,
)
from convbert.data_pipeline.shards.writer import token_dtype
from convbert.models.errors import DamagedError, UserError

Kind = (
    Literal["missing", "unreadable", "size", "digest", "index", "tar", "crc", "count", "unlisted"]
    | Claim
)
Progress = Callable[[int], None]

_DTYPES = (token_dtype(1), token_dtype(1 << 32))
_REMEDIES: dict[Kind, str] = {
    "missing": "copy the shard again or rebuild the shards",
    "unreadable": "check permissions and the disk",
    "size": "the copy is incomplete; copy the shard again",
    "digest": "copy the shard again or rebuild the shards",
    "index": "copy shard, index and manifest of one build",
    "tar": "copy the shard again or rebuild the shards",
    "crc": "copy the shard again or rebuild the shards",
    "count": "copy shard, index and manifest of one build",
    "unlisted": "remove it, or use the manifest of its own build",
    **dict.fromkeys(get_args(Claim), "copy the manifest again or rebuild the shards"),
    "tokenizer_digest": "give the tokenizer of this build, or copy the manifest again",
}


@dataclass(frozen=True)
class Fault:
    """What is wrong with which file."""

    shard: str
    kind: Kind
    detail: str

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return _REMEDIES[self.kind]

    def __str__(self) -> str:
        return f"{self.shard}: {self.detail}; {self.remedy}"


def verify_shards(
    manifest: Path | str,
    workers: int | None = None,
    report: Progress = lambda done: None,
    tokenizer: KnownTokenizer | None = None,
) -> list[Fault]:
    """Return every fault of a shard set, in the order of the shards; none means it is whole.

    Compares size and SHA-256 of every shard and index, the tar's own list of members with the
    index, each member's CRC-32 and number of sequences, and what the manifest says of its rows
    with the rows and the ``tokenizer``. ``report`` is called with the bytes of each finished shard.
    Threads suffice as ``workers``: digests do not hold the interpreter's lock. Raises ``UserError``
    if the manifest itself cannot be read.
    """
    path = manifest_path(manifest)
    if isinstance(path, str):
        raise UserError(
            f"{path}: shards at an address are checked as they are read; verify a copy on a disk"
        )
    content = Manifest.load(path, as_it_is=True)
    faults = list(_unlisted(content, path.parent))
    listed = sum(shard.sequences for shard in content.shards)
    if listed != content.num_sequences:
        detail = f"promises {content.num_sequences} sequences, its shards hold {listed}"
        faults.append(Fault(path.name, "count", detail))

    def check(shard: Shard) -> tuple[list[Fault], Evidence]:
        seen = Evidence()
        found = list(_shard_faults(content, path.parent, shard, seen))
        report(shard.bytes)
        return found, seen

    evidence, of_shards = Evidence(), []
    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
        for found, seen in pool.map(check, content.shards):
            of_shards += found
            evidence.join(seen)
    wrong = evidence.contradictions(content, tokenizer)
    return [*faults, *(Fault(path.name, kind, detail) for kind, detail in wrong), *of_shards]


def _unlisted(manifest: Manifest, folder: Path) -> Iterator[Fault]:
    names = {shard.name for shard in manifest.shards}
    for path in sorted(folder.glob("*.tar")):
        if path.name not in names:
            yield Fault(path.name, "unlisted", "does not belong to this manifest")


def _shard_faults(
    manifest: Manifest, folder: Path, shard: Shard, seen: Evidence
) -> Iterator[Fault]:
    index: ShardIndex | None = None
    try:
        index = load_index(folder, shard)
    except DamagedError:
        there = (folder / index_name(shard.name)).exists()
        reason = "is of another build or damaged" if there else "is missing"
        yield Fault(shard.name, "index", f"{index_name(shard.name)} {reason}")
    except UserError:
        yield Fault(shard.name, "unreadable", f"{index_name(shard.name)} cannot be opened")
    try:
        with (folder / shard.name).open("rb") as file:
            yield from _content_faults(manifest, shard, index, file, seen)
    except FileNotFoundError:
        yield Fault(shard.name, "missing", "is missing")
    except OSError as error:
        yield Fault(shard.name, "unreadable", f"cannot be read ({error.strerror})")


def _content_faults(
    manifest: Manifest,
    shard: Shard,
    index: ShardIndex | None,
    file: io.BufferedReader,
    seen: Evidence,
) -> Iterator[Fault]:
    size = os.fstat(file.fileno()).st_size
    if size != shard.bytes:
        yield Fault(shard.name, "size", f"has {size:,} bytes instead of {shard.bytes:,}")
    elif hashlib.file_digest(file, "sha256").hexdigest() != shard.sha256:
        yield Fault(shard.name, "digest", "its SHA-256 is not the manifest's")
    if index is None:
        return
    counted = sum(member.sequences for member in index.members)
    if counted != shard.sequences:
        detail = f"holds {counted} sequences, the manifest says {shard.sequences}"
        yield Fault(shard.name, "count", detail)
    detail = _tar_fault(file, index.members)
    if detail:
        yield Fault(shard.name, "tar", detail)
    dtype = token_dtype(manifest.vocab_size)
    for member in index.members:
        shape = (member.sequences, manifest.seq_len)
        block = _block(shard.name, member, _read(file, member), shape, dtype)
        if isinstance(block, Fault):
            yield block
        else:
            seen.add(manifest, f"{shard.name}, {member.name}", block)


def _read(file: io.BufferedReader, member: Member) -> bytes:
    file.seek(member.offset)
    return file.read(member.size)


def _tar_fault(file: io.BufferedReader, members: list[Member]) -> str:
    """Compare the tar's headers with the index; return what differs or nothing.

    A tar reader takes a damaged header for the end of the archive, so members are counted too.
    """
    file.seek(0)
    found: list[tuple[str, int, int]] = []
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for entry in tar:
                found.append((entry.name, entry.offset_data, entry.size))
    except tarfile.TarError as error:
        return f"is no whole tar after {len(found)} of {len(members)} members ({error})"
    expected = [(member.name, member.offset, member.size) for member in members]
    if found == expected:
        return ""
    same = sum(1 for left, right in zip(found, expected, strict=False) if left == right)
    return f"its headers list {len(found)} members, {same} of them as the {len(members)} indexed"


def _block(
    shard: str, member: Member, content: bytes, shape: tuple[int, int], dtype: np.dtype[Any]
) -> Rows | Fault:
    """Return the rows of a member, or what is wrong with it."""
    if len(content) != member.size:
        return Fault(shard, "crc", f"ends inside member {member.name}")
    if zlib.crc32(content) != member.crc32:
        return Fault(shard, "crc", f"member {member.name} is damaged (CRC-32)")
    rows: Rows = np.load(io.BytesIO(content), allow_pickle=False)
    if rows.shape != shape or rows.dtype not in _DTYPES:
        detail = f"member {member.name} is {rows.dtype} {rows.shape}, not {dtype} {shape}"
        return Fault(shard, "count", detail)
    return rows
