"""The manifest of a checkpoint, its digests, and which checkpoints a run has; without tensors."""

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from convbert.data_pipeline.digests import file_sha256
from convbert.models.errors import DamagedError, TransientError, UserError
from convbert.models.faults import first_fault
from convbert.models.schema import StrictModel

FORMAT = 2
MANIFEST = "manifest.json"
_PREFIX = "step-"


class StoredFragment(StrictModel):
    """Where elements ``start`` to ``start + count`` of a parameter lie."""

    start: int
    count: int
    file: str


class CheckpointManifest(StrictModel):
    """Contents of a checkpoint, complete enough to read it without the code that wrote it."""

    format: int
    step: int
    trainer: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    fragments: dict[str, list[StoredFragment]]
    sha256: dict[str, str]


class _Trainer(BaseModel):
    """What commands read of ``trainer``; the rest is the trainer's own."""

    skipped: list[tuple[int, int]] = []
    metrics: dict[str, float | None] = {}
    settings: dict[str, Any] | None = None
    data: str | None = None


def checkpoint_directory(root: Path, step: int) -> Path:
    """Return the final path of the checkpoint of ``step``."""
    return root / f"{_PREFIX}{step:08d}"


def checkpoint_step(folder: Path) -> int | None:
    """Return the step of a finished checkpoint's directory, None for another name."""
    number = folder.name.removeprefix(_PREFIX)
    if not (number.isascii() and number.isdigit()):
        return None
    step = int(number)
    return step if folder.name == checkpoint_directory(folder.parent, step).name else None


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise an error of the right kind: a missing file is damage, other I/O errors may pass."""
    try:
        yield
    except FileNotFoundError:
        raise DamagedError(f"{path}: missing; the checkpoint is incomplete") from None
    except PermissionError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); allow this user to read it"
        ) from None
    except OSError as error:
        raise TransientError(
            f"{path}: cannot be read ({error.strerror or error}); check its file system, then "
            "start again"
        ) from None


def checkpoint_steps(root: Path) -> list[int]:
    """List the steps that have a finished checkpoint directory, oldest first."""
    with reading(root):
        found = [p for p in root.iterdir() if p.is_dir()] if root.exists() else []
    steps = (checkpoint_step(path) for path in found)
    return sorted(step for step in steps if step is not None)


def _covers(parts: list[StoredFragment], count: int) -> bool:
    position = 0
    for part in parts:
        if part.start != position:
            return False
        position += part.count
    return position == count


class _Versioned(BaseModel):
    """What the manifests of all formats have."""

    format: int


def read_manifest(folder: Path) -> CheckpointManifest:
    """Read the manifest and check that it makes sense, without a look at the tensors.

    Raises ``DamagedError``, or another ``UserError`` for a format of another version.
    """
    path = folder / MANIFEST
    with reading(path):
        content = path.read_bytes()
    try:
        found = _Versioned.model_validate_json(content).format
        if found != FORMAT:
            raise UserError(
                f"{path}: format {found}, this version reads {FORMAT}; use the version that wrote "
                "it"
            )
        manifest = CheckpointManifest.model_validate_json(content)
        _Trainer.model_validate(manifest.trainer)
    except ValidationError as error:
        reason = first_fault(error)
        raise DamagedError(f"{path}: not a checkpoint manifest ({reason})") from None
    if manifest.step != (checkpoint_step(folder) or manifest.step):
        raise DamagedError(f"{path}: of step {manifest.step}, not of what the directory is called")
    if any(name != Path(name).name for name in manifest.sha256):
        raise DamagedError(f"{path}: names files outside the checkpoint")
    for name, shape in manifest.shapes.items():
        parts = manifest.fragments.get(name, [])
        if not _covers(parts, math.prod(shape)):
            raise DamagedError(f"{path}: the fragments of '{name}' leave gaps")
        if any(part.file not in manifest.sha256 for part in parts):
            raise DamagedError(f"{path}: '{name}' lies in a file without a digest")
    return manifest


def verify(folder: Path) -> CheckpointManifest:
    """Check that the manifest is sound and that every file has the digest it names."""
    manifest = read_manifest(folder)
    for name, digest in manifest.sha256.items():
        file = folder / name
        with reading(file):
            found = file_sha256(file)
        if found != digest:
            raise DamagedError(f"{file}: its SHA-256 differs from the manifest's")
    return manifest


def looks_whole(folder: Path) -> bool:
    """Return whether the manifest is sound and no file is missing or cut; reads no tensor.

    For tables that are shown again and again; ``verify`` compares every byte.
    """
    try:
        return all(_uncut(folder / name) for name in read_manifest(folder).sha256)
    except UserError:
        return False


def _uncut(file: Path) -> bool:
    """Return whether a safetensors file is as long as its header says."""
    with reading(file), open(file, "rb") as stored:
        length = int.from_bytes(stored.read(8), "little")
        size = os.fstat(stored.fileno()).st_size
        if length > size - 8:
            return False
        try:
            entries = json.loads(stored.read(length))
            ends = [e["data_offsets"][1] for n, e in entries.items() if n != "__metadata__"]
            return bool(8 + length + max(ends, default=0) == size)
        except (ValueError, AttributeError, LookupError, TypeError):
            return False
