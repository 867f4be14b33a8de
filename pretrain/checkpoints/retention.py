"""Which checkpoints stay: the newest, the permanent and the best."""

import shutil
from collections.abc import Collection
from pathlib import Path

from convbert.pretrain.checkpoints.checkpoint import directory, read_manifest, steps
from convbert.pretrain.checkpoints.config import CheckpointConfig

_LEFTOVERS = (".tmp-*", ".deleted-*", ".latest.*.tmp")


def prune(root: Path, config: CheckpointConfig, spared: Collection[int] = ()) -> list[int]:
    """Delete what the configuration does not keep, nor ``spared``; return the deleted steps."""
    present = steps(root)
    kept = {*present[-config.keep_last :], *spared, *best(root, config)}
    if config.keep_every:
        kept |= {s for s in present if s % config.keep_every == 0}
    gone = [s for s in present if s not in kept]
    for step in gone:
        remove(directory(root, step))
    return gone


def best(root: Path, config: CheckpointConfig) -> list[int]:
    """Return the ``keep_best`` steps with the best value of ``best_metric``, the best first."""
    if not config.keep_best:
        return []
    sign = 1 if config.best_mode == "min" else -1
    values = {s: read_manifest(directory(root, s)).trainer["metrics"] for s in steps(root)}
    known = [s for s in values if config.best_metric in values[s]]
    return sorted(known, key=lambda s: sign * values[s][config.best_metric])[: config.keep_best]


def remove(folder: Path) -> None:
    """Delete a checkpoint so that a crash in the middle leaves nothing that looks finished."""
    doomed = folder.with_name(f".deleted-{folder.name}")
    folder.rename(doomed)
    shutil.rmtree(doomed)


def sweep(root: Path) -> None:
    """Remove what interrupted writes and deletions left behind."""
    for leftover in (p for pattern in _LEFTOVERS for p in root.glob(pattern)):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
