"""Copies of checkpoints at an fsspec URL, made while training goes on.

The manifest goes last, so a remote directory with a manifest is complete. Every file is read back
and compared; what an interrupted upload left is used if it compares equal. A target that cannot be
reached never stops training. Nothing remote is ever deleted: use the store's own lifecycle rules.
"""

import hashlib
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from convbert.models.errors import UserError
from convbert.pretrain.checkpoints import checkpoint

logger = logging.getLogger(__name__)
_MANIFEST = "manifest.json"
_RETRY_SECONDS = 30.0


def _open(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UserError(
            f"checkpoint.upload={url}: {error}; install the file system's package or correct it"
        ) from None


def _remote_digest(fs: Any, path: str) -> str:
    with fs.open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(fs: Any, local: Path, remote: str) -> None:
    """Upload a file unless it is there already, and compare what arrived."""
    digest = checkpoint.sha256(local)
    same_size = fs.exists(remote) and fs.size(remote) == local.stat().st_size
    if same_size and _remote_digest(fs, remote) == digest:
        return
    fs.put_file(str(local), remote)
    if _remote_digest(fs, remote) != digest:
        raise OSError(f"{remote}: differs from {local} after the upload")


def upload(fs: Any, folder: Path, remote: str) -> None:
    """Copy a finished checkpoint directory; raises what the file system raises."""
    fs.makedirs(remote, exist_ok=True)
    for name in sorted(checkpoint.read_manifest(folder).sha256):
        _copy(fs, folder / name, f"{remote}/{name}")
    _copy(fs, folder / _MANIFEST, f"{remote}/{_MANIFEST}")


class Uploader:
    """A thread that copies the checkpoints of ``root`` to ``url``, the newest first.

    Checkpoints that a former start left behind are copied too.
    """

    def __init__(self, root: Path, url: str) -> None:
        """Check the URL; raises ``UserError`` where no file system serves it."""
        self.root = root
        self.url = url
        self._fs, self._base = _open(url)
        self._wanted = set(checkpoint.steps(root))
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="upload", daemon=True)
        self._thread.start()

    def submit(self, step: int) -> None:
        """Have the checkpoint of ``step`` copied."""
        with self._changed:
            self._wanted.add(step)
            self._changed.notify_all()

    def waiting(self) -> list[int]:
        """List the steps not copied yet; they must stay on the disk."""
        with self._changed:
            return sorted(self._wanted)

    def finish(self, patience: float) -> None:
        """Wait up to ``patience`` seconds for the rest."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(patience)
        if left := self.waiting():
            logger.warning(
                "%s: the checkpoints of steps %s are not uploaded; the next start goes on",
                self.url,
                ", ".join(map(str, left)),
            )

    def _work(self) -> None:
        while (step := self._next()) is not None:
            folder = checkpoint.directory(self.root, step)
            try:
                if folder.is_dir():  # else deleted while the target was away
                    upload(self._fs, folder, f"{self._base}/{folder.name}")
            except Exception as error:  # any file system, any error: training goes on
                logger.warning("%s: uploading step %d failed: %s", self.url, step, error)
                with self._changed:
                    if self._closing:
                        return
                    self._changed.wait(_RETRY_SECONDS)
                continue
            with self._changed:
                self._wanted.discard(step)

    def _next(self) -> int | None:
        with self._changed:
            while not self._wanted and not self._closing:
                self._changed.wait()
            return max(self._wanted, default=None)


def _remote_steps(fs: Any, base: str) -> Iterator[str]:
    """Yield the names of the remote checkpoints that are complete, the newest first."""
    found = fs.ls(base, detail=False) if fs.exists(base) else []
    for name in sorted((path.rstrip("/").rsplit("/", 1)[-1] for path in found), reverse=True):
        if name.startswith("step-") and fs.exists(f"{base}/{name}/{_MANIFEST}"):
            yield name


def download_newest(url: str, root: Path, report: Callable[[str], None]) -> None:
    """Fetch the newest complete checkpoint into ``root``; the caller verifies it."""
    fs, base = _open(url)
    name = next(_remote_steps(fs, base), None)
    if name is None:
        return
    report(f"no checkpoint in {root}; fetching {name} from {url}")
    folder = root / f".tmp-download-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in [*fs.ls(f"{base}/{name}", detail=False)]:
        fs.get_file(file, str(folder / file.rsplit("/", 1)[-1]))
    folder.rename(root / name)
