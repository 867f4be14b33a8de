"""Paths in a configuration, and where a run lay when they were written.

While a configuration is used, its paths are absolute. In the ``config.yaml`` of a run those that
lie beside the run (in the folder that holds its directory, or in the folder above) are relative to
it, so that they are found again where all of it was moved or copied. Where they did not come along
they are looked for where they were.
"""

import glob
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ValidationError

from convbert.data_pipeline.shards.remote import is_url
from convbert.models.schema import StrictModel

Change = Callable[[str], str]
"""Takes a path or an address as it is configured, and returns what stands in its place."""
Fate = Literal["stayed", "moved", "copied"]
CHECKPOINTS = "checkpoints"
"""Parent of all checkpoint directories in a run directory."""
CONFIG = "config.yaml"
"""The resolved configuration in a run directory."""
ENVIRONMENT = "environment.json"
"""In a run directory: on what, and in which place, the run was started last."""


class Place(StrictModel):
    """Where a run directory lay when something in it was written."""

    directory: Path
    inode: int
    host: str

    @classmethod
    def of(cls, run_dir: Path, becomes: Path | None = None) -> Self:
        """Return where a run directory lies now, or lies once it is renamed."""
        real, number = (becomes or run_dir).resolve(), run_dir.stat().st_ino
        return cls(directory=real, inode=number, host=platform.node())


class _Started(BaseModel):
    place: Place | None = None


def place_of_start(run_dir: Path) -> Place | None:
    """Return where the run in ``run_dir`` lay when it was started last, as far as that is known."""
    try:
        return _Started.model_validate_json((run_dir / ENVIRONMENT).read_bytes()).place
    except (OSError, ValidationError):  # the next start writes it again
        return None


def fate(run_dir: Path, before: Place | None) -> Fate:
    """Return what became of a run directory since it lay ``before``.

    A copy is one whose original is still there, or cannot be looked for: it lies on another
    machine, or belongs to another user. A file system keeps the number of a directory when it is
    renamed or mounted elsewhere; on another file system the same number means nothing.
    """
    if before is None:
        return "stayed"
    here = Place.of(run_dir)
    if before.directory == here.directory:
        return "stayed"
    if before.inode == here.inode and not _is_another_run(before.directory, run_dir):
        return "stayed"
    return "copied" if here.host != before.host or _may_hold_run(before.directory) else "moved"


def _may_hold_run(directory: Path) -> bool:
    try:
        (directory / CONFIG).stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _is_another_run(directory: Path, run_dir: Path) -> bool:
    try:
        return (directory / CONFIG).is_file() and not directory.samefile(run_dir)
    except OSError:
        return False


def absolute_place(place: str) -> str:
    """Return a path as an absolute one; an address stays as it is."""
    return place if is_url(place) else str(Path(place).resolve())


def beside(run_dir: Path) -> Change:
    """Return what makes absolute paths relative to ``run_dir`` where they lie beside it."""
    real = run_dir.resolve()
    near = [folder for folder in (real.parent, real.parent.parent) if folder != folder.parent]

    def change(place: str) -> str:
        if is_url(place) or not any(Path(place).is_relative_to(folder) for folder in near):
            return place
        return os.path.relpath(place, real)

    return change


def located(run_dir: Path, before: Path | None) -> Change:
    """Return what undoes ``beside``: it gives the absolute paths that relative ones mean now.

    A path that is not beside ``run_dir`` is looked for where it was when the run lay ``before``.
    """
    real = run_dir.resolve()

    def change(place: str) -> str:
        if is_url(place) or os.path.isabs(place):
            return place
        here = os.path.normpath(real / place)
        there = os.path.normpath(before / place) if before else here
        return there if _is_there(there) and not _is_there(here) else here

    return change


def _is_there(place: str) -> bool:
    return os.path.exists(place) or bool(glob.has_magic(place) and glob.glob(place))
