"""Delete the checkpoints that are not to be kept, and rename damaged ones."""

import logging
import shutil
from collections.abc import Collection
from itertools import islice
from pathlib import Path

from convbert.data_pipeline.atomic import fsync_directory
from convbert.models.errors import UserError
from convbert.pretrain.checkpoints.writer import hide
from convbert.pretrain.run.checkpoint_manifest import (
    CheckpointManifest,
    checkpoint_directory,
    checkpoint_steps,
    read_manifest,
)
from convbert.pretrain.settings.checkpoint import CheckpointConfig

logger = logging.getLogger(__name__)
_DELETED = ".deleted-*"
_LEFTOVERS = (".tmp-*", _DELETED, ".latest.*.tmp")


class Retention:
    """Deletes the checkpoints that the configuration does not keep.

    A failure is a warning, once for each kind, and never ends the run. A checkpoint whose manifest
    cannot be read is neither counted nor deleted.
    """

    def __init__(self, root: Path, config: CheckpointConfig) -> None:
        self.root = root
        self.config = config
        self._warned: set[str] = set()

    def prune(self, spared: Collection[int] = ()) -> list[int]:
        """Delete what is neither kept nor in ``spared``; return the deleted steps."""
        try:
            gone = self._gone(spared)
            for step in gone:  # renamed first, so that a crash leaves no half of a checkpoint
                hide(checkpoint_directory(self.root, step))
            self._clear()
        except Exception as error:  # whatever it is, the newest checkpoint is written
            self._warn("prune", f"{self.root}: old checkpoints are not deleted ({error})")
            return []
        return gone

    def _gone(self, spared: Collection[int]) -> list[int]:
        present = checkpoint_steps(self.root)
        newest = islice((s for s in reversed(present) if self._read(s)), self.config.keep_last)
        kept = {*newest, *spared, *self._best(present)}
        if self.config.keep_every:
            kept |= {s for s in present if s % self.config.keep_every == 0}
        return [s for s in present if s not in kept and self._read(s)]

    def _best(self, present: list[int]) -> list[int]:
        """Return the ``keep_best`` steps with the best ``best_metric``, the best first."""
        if not self.config.keep_best:
            return []
        sign = 1 if self.config.best_mode == "min" else -1
        metrics = {s: m.trainer["metrics"] for s in present if (m := self._read(s))}
        # One that was infinite is stored as null: JSON has no infinity.
        known = [s for s in metrics if metrics[s].get(self.config.best_metric) is not None]
        best = sorted(known, key=lambda s: sign * metrics[s][self.config.best_metric])
        return best[: self.config.keep_best]

    def _read(self, step: int) -> CheckpointManifest | None:
        try:
            return read_manifest(checkpoint_directory(self.root, step))
        except UserError as error:
            self._warn("manifest", f"{error}; it is neither counted nor deleted")
            return None

    def _clear(self) -> None:
        """Delete what is renamed to be deleted, by this call or by earlier ones that failed."""
        for doomed in self.root.glob(_DELETED):
            try:
                shutil.rmtree(doomed)
            except OSError as error:  # on NFS: another process reads it
                self._warn("delete", f"{doomed}: cannot be deleted yet ({error})")

    def _warn(self, kind: str, text: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            logger.warning("%s", text)


def set_aside(folder: Path) -> Path:
    """Rename a damaged checkpoint, which is then neither read nor deleted; return its new path.

    Raises ``UserError`` if it cannot be renamed.
    """
    aside = folder.with_name(f"damaged-{folder.name}")
    number = 1
    while aside.exists():
        number += 1
        aside = folder.with_name(f"damaged-{folder.name}-{number}")
    try:
        folder.rename(aside)
        fsync_directory(folder.parent)
    except OSError as error:
        raise UserError(
            f"{folder}: is damaged and cannot be renamed to {aside.name} ({error.strerror}); make "
            "its directory writable, then start again"
        ) from None
    return aside


def sweep(root: Path) -> None:
    """Remove what interrupted writes and deletions have left."""
    for leftover in (p for pattern in _LEFTOVERS for p in root.glob(pattern)):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
