"""The shard sets that one training reads, alone or blended."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from convbert.data_pipeline.shards.blend import Blend
from convbert.data_pipeline.shards.cache import BlockCache
from convbert.data_pipeline.shards.cached_files import CachedFiles
from convbert.data_pipeline.shards.files import LocalFiles
from convbert.data_pipeline.shards.manifest import Manifest, Packing, manifest_path
from convbert.data_pipeline.shards.staged_files import StagedFiles
from convbert.data_pipeline.shards.store import SequenceStore
from convbert.models.errors import UserError
from convbert.models.schema import StrictModel

# What sources must have in common to share batches, and what to do where they do not.
_COMMON = {
    "tokenizer_digest": "build all with one tokenizer",
    "vocab_size": "build all with one tokenizer",
    "seq_len": "pack all to one length",
    "packing": "pack all in one way",
}


def require_alike(first_place: str, first: Manifest, place: str, manifest: Manifest) -> None:
    """Refuse shard sets whose sequences cannot stand in one batch; raises ``UserError``."""
    for field, remedy in _COMMON.items():
        ours, theirs = str(getattr(first, field))[:12], str(getattr(manifest, field))[:12]
        if getattr(first, field) != getattr(manifest, field):
            raise UserError(f"{place}: has {field} {theirs}, {first_place} has {ours}; {remedy}")


class Source(StrictModel):
    """One shard set of a blend."""

    manifest: str = Field(
        description="path or URL of a manifest, or of its directory", examples=["web/manifest.json"]
    )
    weight: float = Field(
        1.0,
        gt=0,
        allow_inf_nan=False,
        description="share of the sequences, relative to the other weights",
        examples=[3],
    )

    def placed(self, change: Callable[[str], str]) -> "Source":
        """Return the same source with another place of its manifest."""
        return self.model_copy(update={"manifest": change(self.manifest)})


@dataclass(frozen=True)
class CacheSettings:
    """Where blocks of shards at a URL are kept on this node, and how much of them."""

    folder: Path | None = None
    gigabytes: float = 20.0

    def open(self) -> BlockCache:
        """Open the cache; without a folder one of this user in the directory for temporaries."""
        default = Path(tempfile.gettempdir()) / f"convbert-shards-{os.getuid()}"
        return BlockCache(self.folder or default, int(self.gigabytes * 1e9))


class Corpus:
    """What a run reads: one manifest, or several that agree, with weights.

    Raises ``UserError`` for manifests that cannot be read or mixed.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = list(sources)
        self.manifests = [Manifest.load(source.manifest) for source in self.sources]
        self.blend = Blend([source.weight for source in self.sources])
        for source, manifest in zip(self.sources[1:], self.manifests[1:], strict=True):
            require_alike(self.sources[0].manifest, self.manifests[0], source.manifest, manifest)
        digests = [manifest.digest for manifest in self.manifests]
        for number, digest in enumerate(digests):
            if digest in digests[:number]:
                raise UserError(
                    f"data.sources: {self.sources[number].manifest} is listed twice; add up the "
                    "weights"
                )

    @property
    def name(self) -> str:
        """How messages name it."""
        return ", ".join(source.manifest for source in self.sources)

    @property
    def digest(self) -> str:
        """SHA-256 that names the content and its order: the manifest's, or of all with weights."""
        if len(self.manifests) == 1:
            return self.manifests[0].digest
        stated = [[m.digest, p] for m, p in zip(self.manifests, self.blend.parts, strict=True)]
        return hashlib.sha256(json.dumps(stated).encode()).hexdigest()

    @property
    def tokenizer_digest(self) -> str:
        """Digest of the tokenizer of all sources."""
        return self.manifests[0].tokenizer_digest

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return self.manifests[0].vocab_size

    @property
    def seq_len(self) -> int:
        """Tokens per sequence."""
        return self.manifests[0].seq_len

    @property
    def packing(self) -> Packing:
        """How rows were packed."""
        return self.manifests[0].packing

    @property
    def num_sequences(self) -> int:
        """Sequences of all sources."""
        return sum(manifest.num_sequences for manifest in self.manifests)

    def require_batch(self, global_batch: int) -> None:
        """Refuse a source that would repeat within one global batch; raises ``UserError``."""
        for number, (source, manifest) in enumerate(zip(self.sources, self.manifests, strict=True)):
            needed = min(global_batch, int(global_batch * self.blend.share(number)) + 1)
            if manifest.num_sequences < needed:
                part = "one" if len(self.sources) == 1 else "its share of one"
                raise UserError(
                    f"{source.manifest}: {manifest.num_sequences} sequences are fewer than {part} "
                    f"global batch ({needed}); add text or lower global_batch"
                )


def open_store(
    place: str | Path,
    manifest: Manifest,
    cache: CacheSettings | None = None,
    stage: Path | None = None,
) -> SequenceStore:
    """Open the shards of a manifest that was read from a path or URL; raises ``UserError``.

    Shards at a path are read through copies in ``stage``, those at a URL through ``cache``.
    """
    path = manifest_path(place)
    if isinstance(path, Path) and stage is not None:
        return SequenceStore(manifest, StagedFiles(path, manifest, stage))
    if isinstance(path, Path):
        return SequenceStore(manifest, LocalFiles(path))
    cached = (cache or CacheSettings()).open()
    return SequenceStore(manifest, CachedFiles(path, manifest.digest, cached))
