"""Write a checkpoint, which appears whole or not at all.

``checkpoints/step-00001000/`` holds one safetensors file per process that wrote it and
``manifest.json`` with the shape of every parameter, the place of each of its fragments, the
trainer's state and the SHA-256 of every file. All of it is written under a temporary name: every
process writes its file, then a note that describes it. Process 0 waits for the notes, writes the
manifest and gives the directory its final name. ``latest`` names the newest one for people; no
code reads it. Nothing is pickled.
"""

import secrets
import threading
from pathlib import Path
from typing import Any

from convbert.data_pipeline.atomic import atomic_write, fsync_directory
from convbert.models.schema import StrictModel
from convbert.pretrain.checkpoints.snapshot import Snapshot
from convbert.pretrain.checkpoints.tensor_file import write_tensors
from convbert.pretrain.run.checkpoint_manifest import (
    FORMAT,
    MANIFEST,
    CheckpointManifest,
    StoredFragment,
    checkpoint_directory,
)

_POLL_SECONDS = 0.02


class Part(StrictModel):
    """One process's part of a checkpoint: a file and ``(name, start, count)`` of its fragments."""

    file: str
    sha256: str
    fragments: list[tuple[str, int, int]]


def _note(folder: Path, rank: int) -> Path:
    return folder / f"part-{rank:05d}.json"


def write_part(folder: Path, rank: int, snapshot: Snapshot) -> None:
    """Write this process's part of the checkpoint to ``folder``, then its note."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"state-{rank:05d}.safetensors"
    digest = write_tensors(path, snapshot.tensors())
    part = Part(file=path.name, sha256=digest, fragments=snapshot.fragments)
    with atomic_write(_note(folder, rank)) as file:
        file.write(part.model_dump_json().encode())


def wait_for_parts(folder: Path, world: int, cancelled: threading.Event) -> list[Part] | None:
    """Return the parts of all processes once they are written, or None when ``cancelled``."""
    parts = []
    for rank in range(world):  # one after the other: to look for all of them again takes long
        note = _note(folder, rank)
        while not note.exists():
            if cancelled.wait(_POLL_SECONDS):
                return None
        parts.append(Part.model_validate_json(note.read_text()))
    return parts


def commit(
    folder: Path,
    step: int,
    shapes: dict[str, tuple[int, ...]],
    parts: list[Part],
    trainer: dict[str, Any],
) -> None:
    """Write the manifest, rename ``folder`` to the checkpoint of ``step`` and update ``latest``."""
    stored: dict[str, list[StoredFragment]] = {name: [] for name in shapes}
    for part in parts:
        for name, start, count in part.fragments:
            stored[name].append(StoredFragment(start=start, count=count, file=part.file))
    manifest = CheckpointManifest(
        format=FORMAT,
        step=step,
        trainer=trainer,
        shapes=shapes,
        fragments={n: sorted(s, key=lambda f: f.start) for n, s in stored.items()},
        sha256={part.file: part.sha256 for part in parts},
    )
    with atomic_write(folder / MANIFEST) as file:
        file.write(manifest.model_dump_json(indent=1).encode())
    for rank in range(len(parts)):
        _note(folder, rank).unlink()
    final = checkpoint_directory(folder.parent, step)
    if final.exists():  # written by an earlier start and found damaged when the run was resumed
        hide(final)
    folder.rename(final)
    fsync_directory(final.parent)
    with atomic_write(final.parent / "latest") as file:
        file.write(f"{final.name}\n".encode())


def hide(folder: Path) -> None:
    """Rename a checkpoint that is to be deleted, so that no reader finds half of it."""
    folder.rename(folder.with_name(f".deleted-{folder.name}-{secrets.token_hex(4)}"))
