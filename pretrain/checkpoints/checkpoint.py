"""Checkpoints: directories that appear whole or not at all, and are verified before use.

``checkpoints/step-00001000/`` holds one safetensors file per process that wrote it and
``manifest.json`` with the shape of every parameter, where its fragments lie, the trainer's state
and the SHA-256 of every file. Every process writes its file and then a note that describes it; the
one that finds all notes there writes the manifest and gives the directory its final name.
``latest`` is only a hint for people. Nothing in it is pickled. What a start of the run finds
damaged it renames to ``damaged-step-00001000/``, which nothing counts, reads or deletes.
"""

import hashlib
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from convbert.data_pipeline.atomic import atomic_write, fsync_directory
from convbert.models.errors import DamagedError, UserError
from convbert.models.schema import StrictModel
from convbert.pretrain.checkpoints.snapshot import Snapshot, key
from convbert.pretrain.checkpoints.tensor_file import write_tensors
from convbert.pretrain.engine.fragments import KINDS
from convbert.pretrain.run.checkpoint_manifest import (
    FORMAT,
    MANIFEST,
    CheckpointManifest,
    StoredFragment,
    checkpoint_directory,
    checkpoint_steps,
    read_manifest,
    reading,
)


def sha256(path: Path) -> str:
    """Return the digest of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Part(StrictModel):
    """One process's share of a checkpoint: a file and ``(name, start, count)`` of what is in it."""

    file: str
    sha256: str
    fragments: list[tuple[str, int, int]]


def _note(folder: Path, rank: int) -> Path:
    return folder / f"part-{rank:05d}.json"


def write_part(
    folder: Path, rank: int, snapshot: Snapshot, fragments: list[tuple[str, int, int]]
) -> None:
    """Write a process's share of the checkpoint in ``folder``, then the note that it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"state-{rank:05d}.safetensors"
    digest = write_tensors(path, snapshot.tensors())
    part = Part(file=path.name, sha256=digest, fragments=fragments)
    with atomic_write(_note(folder, rank)) as file:
        file.write(part.model_dump_json().encode())


def read_parts(folder: Path, world: int) -> list[Part] | None:
    """Return the shares of all processes, or None while one of them is not there yet."""
    notes = [_note(folder, rank) for rank in range(world)]
    if not all(note.exists() for note in notes):
        return None
    return [Part.model_validate_json(note.read_text()) for note in notes]


def commit(
    folder: Path,
    final: Path,
    step: int,
    shapes: dict[str, tuple[int, ...]],
    parts: list[Part],
    trainer: dict[str, Any],
) -> None:
    """Write the manifest, move the folder to its final name and point ``latest`` at it."""
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
    if final.exists():  # an earlier attempt at this step, found damaged when the run was resumed
        hide(final)
    folder.rename(final)
    fsync_directory(final.parent)
    with atomic_write(final.parent / "latest") as file:
        file.write(f"{final.name}\n".encode())


def hide(folder: Path) -> None:
    """Give a checkpoint that is to be deleted a name under which nothing takes it for one."""
    folder.rename(folder.with_name(f".deleted-{folder.name}-{secrets.token_hex(4)}"))


class CheckpointReader:
    """Random access to the named tensors of a checkpoint."""

    def __init__(self, folder: Path, *, trusted: bool = False) -> None:
        """Open ``folder``; raises ``DamagedError`` if a part is not as written.

        A file system that does not answer and an unknown format are other kinds of ``UserError``.
        ``trusted`` leaves out reading everything, where another process has just done so.
        """
        self.folder = folder
        self.manifest = read_manifest(folder) if trusted else verify(folder)
        try:
            with reading(folder):
                self._files: dict[str, Any] = {
                    name: safe_open(folder / name, framework="pt") for name in self.manifest.sha256
                }
            if not trusted:
                self._check_values()
        except SafetensorError as error:
            raise DamagedError(f"{folder}: not a safetensors file ({error})") from None

    def read(self, kind: str, name: str, start: int, count: int) -> Tensor:
        """Return ``count`` elements of a flattened tensor, fp32, from ``start``."""
        out = torch.empty(count)
        for part in self.manifest.fragments[name]:
            low, high = max(start, part.start), min(start + count, part.start + part.count)
            if low < high:
                stored = self._files[part.file].get_slice(key(kind, name, part.start))
                out[low - start : high - start] = stored[low - part.start : high - part.start]
        return out

    def _check_values(self) -> None:
        """Refuse tensors of another shape than the manifest says, and values not finite."""
        for name, parts in self.manifest.fragments.items():
            for part in parts:
                for kind in KINDS:
                    tensor = self._files[part.file].get_tensor(key(kind, name, part.start))
                    where = f"{self.folder / part.file}: {kind} of '{name}'"
                    if tensor.shape != (part.count,) or tensor.dtype != torch.float32:
                        raise DamagedError(f"{where} has another shape or type")
                    if not torch.isfinite(tensor).all():
                        raise DamagedError(f"{where} holds values that are not finite")

    def parameters(self) -> dict[str, Tensor]:
        """Return every parameter whole, in its shape."""
        return {
            name: self.read("param", name, 0, torch.Size(shape).numel()).view(shape)
            for name, shape in self.manifest.shapes.items()
        }


def verify(folder: Path) -> CheckpointManifest:
    """Check the manifest, every digest and that the fragments tile every parameter."""
    manifest = read_manifest(folder)
    for name, digest in manifest.sha256.items():
        file = folder / name
        with reading(file):
            found = sha256(file)
        if found != digest:
            raise DamagedError(f"{file}: its SHA-256 differs from the manifest's")
    return manifest


def latest_good(root: Path, report: Callable[[str], None] | None = None) -> CheckpointReader | None:
    """Open the newest checkpoint that verifies, or return None where there is no checkpoint.

    ``report(message)`` hears of damaged ones. Raises ``UserError`` if none of them verifies, and
    where one can neither be read nor called damaged.
    """
    damage: list[str] = []
    for step in reversed(checkpoint_steps(root)):
        try:
            return CheckpointReader(checkpoint_directory(root, step))
        except DamagedError as error:
            damage.append(str(error))
            if report is not None:
                report(f"skipping a damaged checkpoint: {error}")
    if damage:
        raise UserError(
            f"{root}: no checkpoint can be used ({'; '.join(damage)}); restore a copy of one, "
            "choose another run directory, or move them away to start without them"
        )
    return None
