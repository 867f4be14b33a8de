"""Copies of checkpoints at an fsspec URL, made while training goes on.

Those of a run are in ``URL/RUN_NAME/``. The manifest is copied last, so a remote directory with a
manifest is complete. Every file is read back and compared with the manifest's digest; a file that
an interrupted upload left is kept if it is equal. A target that cannot be reached never stops
training. Nothing remote is ever deleted: use the store's own lifecycle rules.
"""

import hashlib
import logging
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from convbert.data_pipeline.atomic import fsync_directory
from convbert.data_pipeline.digests import file_sha256
from convbert.models.errors import DamagedError, TransientError, UserError
from convbert.pretrain.checkpoints.reader import CheckpointReader
from convbert.pretrain.run.checkpoint_manifest import (
    MANIFEST,
    checkpoint_directory,
    checkpoint_steps,
    read_manifest,
    verify,
)
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.run.identity import require_same_run
from convbert.pretrain.settings.checkpoint import CheckpointConfig
from convbert.pretrain.settings.run import RunConfig

logger = logging.getLogger(__name__)
_RETRY_SECONDS = 30.0


def _open(url: str, root: Path) -> tuple[Any, str]:
    """Return the file system and its path for the checkpoints of the run around ``root``."""
    import fsspec

    try:
        fs, base = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UserError(
            f"checkpoint.upload={url}: {error}; install the file system's package or correct it"
        ) from None
    return fs, f"{base.rstrip('/')}/{RunDirectory(root.parent).name}"


def _holds(fs: Any, remote: str, digest: str) -> bool:
    with fs.open(remote, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == digest


def _copy(fs: Any, local: Path, remote: str, digest: str) -> None:
    """Upload a file of this digest unless it is there already, and compare what arrived."""
    same_size = fs.exists(remote) and fs.size(remote) == local.stat().st_size
    if same_size and _holds(fs, remote, digest):
        return
    fs.put_file(str(local), remote)
    if not _holds(fs, remote, digest):
        raise OSError(f"{remote}: differs from {local} after the upload")


def upload(fs: Any, folder: Path, remote: str) -> None:
    """Copy a finished checkpoint directory, unless the same manifest is there already.

    Raises ``DamagedError`` for a damaged one, of which nothing is copied, and whatever the file
    system raises.
    """
    digests = read_manifest(folder).sha256
    manifest, last = folder / MANIFEST, f"{remote}/{MANIFEST}"
    if fs.exists(last) and _holds(fs, last, file_sha256(manifest)):
        return
    verify(folder)
    fs.makedirs(remote, exist_ok=True)
    for name, digest in sorted(digests.items()):
        _copy(fs, folder / name, f"{remote}/{name}", digest)
    _copy(fs, manifest, last, file_sha256(manifest))


class Uploader:
    """A thread that copies the checkpoints of ``root`` to ``url``, the newest first.

    Those that an earlier start of the run did not copy are copied too; damaged ones are not.
    """

    def __init__(self, root: Path, url: str) -> None:
        """Start the thread; raises ``UserError`` if no file system serves ``url``."""
        self.root = root
        self.url = url
        self._fs, self._base = _open(url, root)
        self._wanted = set(checkpoint_steps(root))
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="upload", daemon=True)
        self._thread.start()

    def submit(self, step: int) -> None:
        """Add the checkpoint of ``step`` to those to be copied."""
        with self._changed:
            self._wanted.add(step)
            self._changed.notify_all()

    def waiting(self) -> list[int]:
        """Return the steps that are not copied yet and must stay on the disk."""
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
            folder = checkpoint_directory(self.root, step)
            try:
                if folder.is_dir():  # else deleted while the target was away
                    upload(self._fs, folder, f"{self._base}/{folder.name}")
            except DamagedError as error:  # trying again would not help
                logger.warning("%s: step %d is not uploaded: %s", self.url, step, error)
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


def complete(root: Path, config: CheckpointConfig) -> None:
    """Copy what earlier starts of a finished run did not, if ``checkpoint.upload`` is set."""
    if config.upload is not None:
        Uploader(root, config.upload).finish(config.upload_patience)


def _listing(fs: Any, place: str) -> list[str]:
    """Return the names in a remote folder, none if there is no such folder."""
    try:
        return [path.rstrip("/").rsplit("/", 1)[-1] for path in fs.ls(place, detail=False)]
    except FileNotFoundError:
        return []


@contextmanager
def _fetching(url: str) -> Iterator[None]:
    """Turn any error of a file system into a ``TransientError`` that names ``url``."""
    try:
        yield
    except Exception as error:  # each store has errors of its own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise TransientError(
            f"checkpoint.upload={url}: cannot be fetched from ({reason}); check the address and "
            "the network"
        ) from None


def _fetched(url: str, root: Path) -> Iterator[tuple[str, Path]]:
    """Fetch the complete remote checkpoints one by one, the newest first.

    Yields each one's remote place and its local folder, which is deleted afterwards.
    """
    fs, base = _open(url, root)
    with _fetching(url):
        names = sorted((n for n in _listing(fs, base) if n.startswith("step-")), reverse=True)
    for name in names:
        place, folder = f"{base}/{name}", root / ".tmp-download" / name
        with _fetching(url):
            files = _listing(fs, place)
            if MANIFEST not in files:
                continue
            logger.info("no checkpoint in %s; fetching %s from %s", root, name, base)
            folder.mkdir(parents=True)
            for file in files:
                fs.get_file(f"{place}/{file}", str(folder / file))
        try:
            yield place, folder
        finally:
            shutil.rmtree(folder.parent, ignore_errors=True)


def download_newest(url: str, root: Path, config: RunConfig) -> None:
    """Fetch the newest remote checkpoint that verifies into ``root``, if there is any.

    Raises ``UserError`` if a run with other settings than ``config`` wrote it, and if there are
    some but none verifies; ``TransientError`` if the target cannot be read.
    """
    damage: list[str] = []
    for place, folder in _fetched(url, root):
        try:
            found = CheckpointReader(folder)
        except DamagedError as error:
            damage.append(f"{place}: {error}")
            logger.warning("skipping a damaged copy: %s", damage[-1])
            continue
        source = f"checkpoint.upload={url}: {place}"
        require_same_run(source, found.manifest, config, folder.parent)
        folder.rename(root / folder.name)
        fsync_directory(root)
        return
    if damage:
        raise UserError(
            f"checkpoint.upload={url}: no copy can be used ({'; '.join(damage)}); restore one of "
            "them, choose another run directory, or move them away to start at update 0"
        )
