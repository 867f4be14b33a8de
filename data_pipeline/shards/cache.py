"""A cache on a node's local disk, bounded in size and shared by all processes of the node.

Entries are small files (a block of sequences, an index) named by what they hold. They appear by
renaming, so a reader sees a whole entry or none; the least recently used are deleted before the
limit is passed. Entries are not synced to the disk: whoever reads one checks it, and one that a
crash cut is fetched again.
"""

import errno
import os
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from convbert.data_pipeline.locks import locked
from convbert.models.errors import UserError

Fetch = Callable[[Sequence[str]], Sequence[bytes | UserError]]

_KEPT_WHEN_EVICTING = 0.9
_ABANDONED_SECONDS = 3600


class BlockCache:
    """Entries by name in ``folder``, at most ``limit`` bytes of them."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        try:
            (folder / "entries").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error, 0) from None

    def get(self, group: str, keys: Sequence[str], fetch: Fetch) -> dict[str, bytes | UserError]:
        """Return the contents of entries; missing ones come from ``fetch`` and are kept.

        One process of the node fetches for a ``group`` at a time, the others wait and find what it
        fetched. ``fetch`` returns checked contents, or errors, which are returned and not kept.
        Raises ``UserError`` when the disk is full.
        """
        keys = list(dict.fromkeys(keys))
        found: dict[str, bytes | UserError] = self._present(keys)
        missing = [key for key in keys if key not in found]
        if missing:
            with ExitStack() as held:
                try:
                    held.enter_context(locked(self.folder / f"fetch-{group}.lock"))
                except OSError as error:
                    raise self._unusable(error, 0) from None
                found |= self._present(missing)
                missing = [key for key in missing if key not in found]
                fetched = dict(zip(missing, fetch(missing), strict=True)) if missing else {}
                self._keep({k: c for k, c in fetched.items() if isinstance(c, bytes)})
                found |= fetched
        return found

    def discard(self, key: str) -> None:
        """Delete an entry that proved bad."""
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / "entries" / key

    def _present(self, keys: Sequence[str]) -> dict[str, bytes | UserError]:
        found: dict[str, bytes | UserError] = {}
        for key in keys:
            try:
                found[key] = self._path(key).read_bytes()
                os.utime(self._path(key))  # its last use
            except FileNotFoundError:
                continue
            except OSError as error:
                raise self._unusable(error, 0) from None
        return found

    def _keep(self, entries: dict[str, bytes]) -> None:
        """Write entries after making room for all of them."""
        size = sum(map(len, entries.values()))
        try:
            self._reserve(size)
            for key, content in entries.items():
                self._write(self._path(key), content)
        except OSError as error:
            raise self._unusable(error, size) from None

    def _reserve(self, size: int) -> None:
        """Count ``size`` more bytes, deleting old entries first if the limit would be passed.

        The count is a file of its own, because adding up all entries takes long; it is set right
        whenever entries are deleted, so what a killed process counted and did not write is found.
        """
        if size > self.limit * _KEPT_WHEN_EVICTING:
            raise UserError(
                f"{self.folder}: {size:,} bytes are read at once, more than fit in a cache of "
                f"{self.limit:,} bytes; raise data.cache_gigabytes"
            )
        counter = self.folder / "bytes"
        with locked(self.folder / "size.lock"):
            known = counter.read_bytes() if counter.exists() else b""
            used = int(known) + size if known.strip().isdigit() else self.limit + 1
            if used > self.limit:
                used = self._evict(int(self.limit * _KEPT_WHEN_EVICTING) - size) + size
            counter.write_bytes(b"%d" % used)

    def _evict(self, keep: int) -> int:
        """Delete the least recently used entries until at most ``keep`` bytes are left."""
        entries = []
        for entry in os.scandir(self.folder / "entries"):
            with suppress(FileNotFoundError):
                status = entry.stat()
                if not entry.name.endswith(".tmp"):
                    entries.append((status.st_mtime_ns, status.st_size, entry.path))
                elif status.st_mtime < time.time() - _ABANDONED_SECONDS:
                    os.unlink(entry.path)
        left = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if left <= keep:
                break
            Path(path).unlink(missing_ok=True)
            left -= size
        return left

    def _write(self, path: Path, content: bytes) -> None:
        temporary = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _unusable(self, error: OSError, size: int) -> UserError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(self.folder).free
            return UserError(
                f"{self.folder}: the disk of the shard cache is full ({size:,} bytes needed, "
                f"{free:,} free); make room, lower data.cache_gigabytes or set data.cache to a "
                "directory on another disk"
            )
        return UserError(
            f"{self.folder}: the shard cache cannot be used ({error.strerror}); set data.cache to "
            "a directory that can be written"
        )
