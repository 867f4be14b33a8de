"""Shards copied to a node's own disk when they are first read, and read there from then on.

Parallel file systems serve many small reads badly; a copy reads each shard once, from end to end.
Copies lie in a folder named by the manifest's digest, appear whole by renaming, and are shared by
all processes of the node: one copies a shard, the others wait for it. Each copy is checked against
the manifest's SHA-256.
"""

import errno
import fcntl
import hashlib
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from convbert.data_pipeline.atomic import atomic_write
from convbert.data_pipeline.shards.files import LocalFiles, OpenShard, ShardFiles
from convbert.data_pipeline.shards.manifest import Manifest, Member, Shard, index_name
from convbert.models.errors import TransientError, UserError

log = logging.getLogger(__name__)

_CHUNK = 1 << 22
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


class StagedFiles:
    """The shards beside ``manifest_file``, through copies in ``stage``.

    Raises ``UserError`` where the disk has no room for those that are not there yet.
    """

    fetches = False

    def __init__(self, manifest_file: Path, manifest: Manifest, stage: Path) -> None:
        self._source = manifest_file.parent
        self._far: ShardFiles = LocalFiles(manifest_file)
        self._stage = stage
        self._folder = stage / f"convbert-shards-{manifest.digest[:16]}"
        self._near: ShardFiles = LocalFiles(self._folder / "manifest.json")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self._folder).free
        except OSError as error:
            raise self._unusable(f"cannot be used ({error.strerror})") from None
        missing = sum(s.bytes for s in manifest.shards if not self._is_here(s))
        if missing > free:
            raise self._unusable(f"{free / 1e9:.1f} GB are free, {missing / 1e9:.1f} GB are needed")
        with suppress(OSError):  # the first process of the node writes it
            manifest.save(self._folder / "manifest.json")

    def open(self, shard: Shard) -> OpenShard:
        """Open the copy of a shard, made now if need be; the shard itself where it is damaged."""
        path = self._folder / shard.name
        if not self._is_here(shard):
            with self._locked(shard.name):
                if not self._is_here(shard) and not self._copied(shard, path):
                    return self._far.open(shard)  # reading it names the damaged block
        return self._near.open(shard)

    def _is_here(self, shard: Shard) -> bool:
        """Return whether both files are; some machines remove what lay unused for days."""
        names = (shard.name, index_name(shard.name))
        return all((self._folder / name).exists() for name in names)

    def prepare(self, wanted: Sequence[tuple[OpenShard, Member]]) -> None:
        """Do nothing: the files are here."""

    def _copied(self, shard: Shard, path: Path) -> bool:
        """Copy a shard after its index; return whether it is what the manifest says."""
        index = index_name(shard.name)
        try:
            for name, target in ((index, path.with_name(index)), (shard.name, path)):
                if not self._copy(name, target, shard):
                    return False
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise self._unusable(f"{shard.name} cannot be kept ({error.strerror})") from None
            raise TransientError(
                f"{self._source / shard.name}: cannot be copied ({error.strerror}); start again"
            ) from None
        return True

    def _copy(self, name: str, target: Path, shard: Shard) -> bool:
        expected = shard.sha256 if name == shard.name else shard.index_sha256
        digest = hashlib.sha256()
        with suppress(_DamagedCopyError), (self._source / name).open("rb") as source:
            with atomic_write(target) as copy:
                while chunk := source.read(_CHUNK):
                    digest.update(chunk)
                    copy.write(chunk)
                if digest.hexdigest() != expected:
                    raise _DamagedCopyError
            return True
        log.warning(f"{self._source / name}: is not what its manifest says; it is not staged")
        return False

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        try:
            lock = (self._folder / f".{name}.lock").open("w")
        except OSError as error:  # another user's directory, say
            raise self._unusable(f"{name} cannot be locked ({error.strerror})") from None
        with lock:
            with suppress(OSError):  # without locks several processes copy, each a whole file
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _unusable(self, reason: str) -> UserError:
        return UserError(
            f"data.stage={self._stage}: {reason}; choose a larger disk of the node's own, or leave "
            "data.stage out"
        )


class _DamagedCopyError(Exception):
    """Keeps a copy that is not what the manifest says from being renamed."""
