"""Debian packages as sources of text, for machines with ``apt-get``."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from convbert.data_pipeline.corpora.packages import Archive, run_tool


@dataclass(frozen=True)
class Deb:
    """A Debian package, for machines with ``apt-get``."""

    requirement: str
    sha256: str

    def download(self, folder: Path) -> Path:
        """Let apt-get put the package into an empty folder."""
        run_tool(
            ["apt-get", "download", "-q", self.requirement], folder, self.requirement, "apt-get"
        )
        return next(folder.glob("*.deb"))

    @contextmanager
    def open(self, file: Path) -> Iterator[Archive]:
        """Give the files of a downloaded package; its scripts are not run."""
        with tempfile.TemporaryDirectory() as folder:
            command = ["dpkg-deb", "--extract", str(file), folder]
            run_tool(command, file.parent, self.requirement, "dpkg-deb")
            yield _Folder(Path(folder))


class _Folder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def namelist(self) -> list[str]:
        files = (p for p in self.path.rglob("*") if p.is_file() and not p.is_symlink())
        return sorted(p.relative_to(self.path).as_posix() for p in files)

    def read(self, name: str, /) -> bytes:
        return (self.path / name).read_bytes()
