"""Checkpoints: directories that appear whole or not at all, and are verified before use.

``checkpoints/step-00001000/`` holds one safetensors file per process that wrote it and
``manifest.json`` with the shape of every parameter, where its fragments lie, the trainer's state
and the SHA-256 of every file. The directory is written under a temporary name, synced and
renamed; ``latest`` is only a hint for people. Nothing in it is pickled.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from convbert.data_pipeline.atomic import atomic_write, fsync_directory
from convbert.models.errors import UserError
from convbert.pretrain.checkpoints.state import KINDS, Fragment

FORMAT = 1
_PREFIX, _MANIFEST = "step-", "manifest.json"


class StoredFragment(BaseModel):
    """Where elements ``start`` to ``start + count`` of a parameter lie."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: int
    count: int
    file: str


class CheckpointManifest(BaseModel):
    """Contents of a checkpoint, complete enough to read it without the code that wrote it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    step: int
    trainer: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    fragments: dict[str, list[StoredFragment]]
    sha256: dict[str, str]


class DamagedCheckpointError(UserError):
    """A checkpoint directory that must not be used, with the file and the reason."""


def directory(root: Path, step: int) -> Path:
    """Return the final path of the checkpoint of ``step``."""
    return root / f"{_PREFIX}{step:08d}"


def steps(root: Path) -> list[int]:
    """List the steps that have a finished checkpoint directory, oldest first."""
    names = (p.name for p in root.glob(f"{_PREFIX}*") if p.is_dir())
    return sorted(int(n[len(_PREFIX) :]) for n in names if n[len(_PREFIX) :].isdigit())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _key(kind: str, name: str, start: int) -> str:
    return f"{kind}|{name}|{start}"


def write_fragments(folder: Path, rank: int, held: Iterable[Fragment]) -> dict[str, Any]:
    """Write this process's owned fragments to one synced file and describe it.

    Returns the file's name, digest and list of ``(name, start, count)``, for ``commit``.
    """
    owned = [f for f in held if f.owned]
    path = folder / f"state-{rank:05d}.safetensors"
    tensors = {
        _key(kind, f.name, f.start): f.views[kind].detach().to("cpu", copy=True)
        for f in owned
        for kind in KINDS
    }
    save_file(tensors, path)
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return {
        "file": path.name,
        "sha256": _sha256(path),
        "fragments": [(f.name, f.start, f.count) for f in owned],
    }


def commit(
    folder: Path,
    final: Path,
    step: int,
    shapes: dict[str, tuple[int, ...]],
    parts: list[dict[str, Any]],
    trainer: dict[str, Any],
) -> CheckpointManifest:
    """Write the manifest, move the folder to its final name and point ``latest`` at it."""
    stored: dict[str, list[StoredFragment]] = {name: [] for name in shapes}
    for part in parts:
        for name, start, count in part["fragments"]:
            stored[name].append(StoredFragment(start=start, count=count, file=part["file"]))
    manifest = CheckpointManifest(
        format=FORMAT,
        step=step,
        trainer=trainer,
        shapes=shapes,
        fragments={n: sorted(s, key=lambda f: f.start) for n, s in stored.items()},
        sha256={part["file"]: part["sha256"] for part in parts},
    )
    with atomic_write(folder / _MANIFEST) as file:
        file.write(manifest.model_dump_json(indent=1).encode())
    if final.exists():  # an earlier attempt at this step, found damaged when the run was resumed
        shutil.rmtree(final)
    folder.rename(final)
    fsync_directory(final.parent)
    with atomic_write(final.parent / "latest") as file:
        file.write(f"{final.name}\n".encode())
    return manifest


class CheckpointReader:
    """Random access to the named tensors of a verified checkpoint."""

    def __init__(self, folder: Path) -> None:
        """Open ``folder``; raises ``DamagedCheckpointError`` if a part is not as written."""
        self.folder = folder
        self.manifest = verify(folder)
        self._files: dict[str, Any] = {
            name: safe_open(folder / name, framework="pt") for name in self.manifest.sha256
        }

    def read(self, kind: str, name: str, start: int, count: int) -> Tensor:
        """Return ``count`` elements of a flattened tensor, fp32, from ``start``."""
        out = torch.empty(count)
        for part in self.manifest.fragments[name]:
            low, high = max(start, part.start), min(start + count, part.start + part.count)
            if low < high:
                stored = self._files[part.file].get_slice(_key(kind, name, part.start))
                out[low - start : high - start] = stored[low - part.start : high - part.start]
        return out

    def parameters(self) -> dict[str, Tensor]:
        """Return every parameter whole, in its shape."""
        return {
            name: self.read("param", name, 0, torch.Size(shape).numel()).view(shape)
            for name, shape in self.manifest.shapes.items()
        }


def _covers(parts: list[StoredFragment], count: int) -> bool:
    position = 0
    for part in parts:
        if part.start != position:
            return False
        position += part.count
    return position == count


def verify(folder: Path) -> CheckpointManifest:
    """Check the manifest, every digest and that the fragments tile every parameter."""
    path = folder / _MANIFEST
    try:
        manifest = CheckpointManifest.model_validate_json(path.read_text())
    except FileNotFoundError:
        raise DamagedCheckpointError(f"{path}: missing; the checkpoint is incomplete") from None
    except (ValidationError, UnicodeDecodeError) as error:
        first = str(error).splitlines()[0]
        raise DamagedCheckpointError(f"{path}: not a checkpoint manifest ({first})") from None
    if manifest.format != FORMAT:
        raise DamagedCheckpointError(
            f"{path}: format {manifest.format}, this version reads {FORMAT}; use the version that "
            "wrote it"
        )
    for name, digest in manifest.sha256.items():
        file = folder / name
        if not file.is_file():
            raise DamagedCheckpointError(f"{file}: missing; the checkpoint is incomplete")
        if _sha256(file) != digest:
            raise DamagedCheckpointError(f"{file}: its SHA-256 differs from the manifest's")
    for name, shape in manifest.shapes.items():
        if not _covers(manifest.fragments[name], torch.Size(shape).numel()):
            raise DamagedCheckpointError(f"{path}: the fragments of '{name}' leave gaps")
    return manifest


def latest_good(root: Path, report: Any = None) -> CheckpointReader | None:
    """Open the newest checkpoint that verifies; ``report(message)`` hears of damaged ones."""
    for step in reversed(steps(root)):
        try:
            return CheckpointReader(directory(root, step))
        except (DamagedCheckpointError, SafetensorError) as error:
            if report is not None:
                report(f"skipping a damaged checkpoint: {error}")
    return None


def prune(root: Path, keep_last: int, keep_every: int | None) -> list[int]:
    """Delete old checkpoints and leftovers of interrupted writes; return the deleted steps.

    Kept are the newest ``keep_last`` and every multiple of ``keep_every``.
    """
    present = steps(root)
    kept = set(present[-keep_last:])
    if keep_every:
        kept |= {s for s in present if s % keep_every == 0}
    gone = [s for s in present if s not in kept]
    for step in gone:
        remove(directory(root, step))
    return gone


def remove(folder: Path) -> None:
    """Delete a checkpoint so that a crash in the middle leaves nothing that looks finished."""
    doomed = folder.with_name(f".deleted-{folder.name}")
    folder.rename(doomed)
    shutil.rmtree(doomed)


def sweep(root: Path) -> None:
    """Remove what interrupted writes and deletions left behind."""
    for leftover in [*root.glob(".tmp-*"), *root.glob(".deleted-*")]:
        shutil.rmtree(leftover, ignore_errors=True)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest as plain data without verifying the files, for listings."""
    return json.loads((folder / _MANIFEST).read_text())
