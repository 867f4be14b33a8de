"""The manifest: what a set of shards contains, and the digests that prove it."""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from convbert.data_pipeline.atomic import atomic_write
from convbert.data_pipeline.shards.remote import is_url, read_bytes
from convbert.models.errors import AbsentError, DamagedError, TransientError, UserError
from convbert.models.schema import StrictModel, parse

COPY_AGAIN = "copy the shard again or rebuild the shards"
Packing = Literal["electra", "full"]


class Member(StrictModel):
    """One block of sequences in a tar: where its ``.npy`` bytes lie and what they must be."""

    name: str
    offset: int
    size: int
    crc32: int
    sequences: int


class ShardIndex(StrictModel):
    """The file beside a shard that makes its members addressable."""

    shard: str
    members: list[Member]


class Shard(StrictModel):
    """One tar file of the corpus."""

    name: str
    bytes: int = Field(gt=0)
    sequences: int = Field(gt=0)
    sha256: str
    index_sha256: str


class Manifest(StrictModel):
    """All that is known of a corpus of packed sequences."""

    format: Literal[1] = 1
    tool: str
    tokenizer_digest: str
    vocab_size: int = Field(gt=0)
    pad_id: int
    cls_id: int
    sep_id: int
    seq_len: int = Field(gt=0)
    packing: Packing
    num_documents: int | None = Field(description="None in a part of a set that was split")
    num_sequences: int = Field(gt=0)
    num_tokens: int = Field(ge=0)
    build: dict[str, Any]
    shards: list[Shard] = Field(min_length=1)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON: names the corpus, its order and everything in it.

        Only what the file states counts. A field that a later version adds, with a default for
        older files, must not give their corpora a new name and unfinished runs a new order.
        """
        stated = {**self.model_dump(mode="json", exclude_unset=True), "format": self.format}
        text = json.dumps(stated, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def fill(self) -> float:
        """Share of the stored tokens that are not padding."""
        return self.num_tokens / (self.num_sequences * self.seq_len)

    @property
    def languages(self) -> list[str]:
        """Codes of the languages that ``corpus build`` kept; empty where that is not recorded."""
        sources = self.build.get("sources", [])
        filters = [source["filters"].get("language") for source in sources if "filters" in source]
        return [code for kept in filters if kept for code in kept["languages"]]

    @classmethod
    def load(cls, place: Path | str, *, as_it_is: bool = False) -> "Manifest":
        """Read a manifest, or the one in a directory, also at a URL; raises ``UserError``.

        One whose sum is not that of its shards is refused, unless it is taken ``as_it_is``.
        """
        path = manifest_path(place)
        try:
            content = read_bytes(path) if isinstance(path, str) else path.read_bytes()
        except FileNotFoundError:
            raise AbsentError(
                f"{path}: no manifest; build shards with `convbert shards build`"
            ) from None
        except (OSError, ValueError) as error:  # a loop of links, a name with a null character
            raise UserError(f"{str(path)!r}: cannot be read ({error}); check the path") from None
        remedy = "build the shards again"
        found = parse(cls, content, path, what="a shard manifest", remedy=remedy)
        listed = sum(shard.sequences for shard in found.shards)
        if listed != found.num_sequences and not as_it_is:
            raise DamagedError(
                f"{path}: states {found.num_sequences:,} sequences, its shards {listed:,}; it was "
                f"edited or damaged; {remedy}"
            )
        return found

    def describe(self, folder: Path) -> str:
        """Return one line on what the shards in ``folder`` hold."""
        counted = "" if self.num_documents is None else f"{self.num_documents:,} documents, "
        return (
            f"{folder}: {counted}{self.num_tokens:,} tokens in {self.num_sequences:,} sequences of "
            f"{self.seq_len} ({self.fill:.1%} filled), {len(self.shards)} shard(s), digest "
            f"{self.digest[:12]}"
        )

    def save(self, path: Path) -> None:
        """Write the manifest atomically."""
        with atomic_write(path) as file:
            file.write(self.model_dump_json(indent=1).encode() + b"\n")


def manifest_path(place: Path | str) -> Path | str:
    """Return the manifest file for a path or URL that may name its directory."""
    if isinstance(place, str) and is_url(place):
        return place if place.endswith(".json") else f"{place.rstrip('/')}/manifest.json"
    path = Path(place)
    return path / "manifest.json" if path.is_dir() else path


def load_index(folder: Path, shard: Shard) -> ShardIndex:
    """Read the index beside a shard and check that it is the manifest's.

    Raises ``DamagedError`` if it is missing or another, and as ``unopened`` says.
    """
    path = folder / index_name(shard.name)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DamagedError(f"{path}: missing; copy it again or rebuild the shards") from None
    except OSError as error:
        raise unopened(path, error) from None
    return check_index(str(path), content, shard)


def unopened(path: Path, error: OSError) -> UserError:
    """Return the error of a file of a shard set that is there and cannot be opened."""
    what = f"{path}: cannot be opened ({error.strerror})"
    if isinstance(error, PermissionError):
        return UserError(f"{what}; allow this user to read it")
    return TransientError(f"{what}; start again, or {COPY_AGAIN}")


def check_index(place: str, content: bytes, shard: Shard) -> ShardIndex:
    """Return the index that the bytes at ``place`` are; raises ``DamagedError`` for another one."""
    if hashlib.sha256(content).hexdigest() != shard.index_sha256:
        raise DamagedError(
            f"{place}: is not the index this manifest was built with; copy shard, index and "
            "manifest of one build"
        )
    return ShardIndex.model_validate_json(content)


def index_name(shard: str) -> str:
    """Return the file name of a shard's index."""
    return shard.removesuffix(".tar") + ".index.json"
