"""A text that ships in a package."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from convbert.data_pipeline.atomic import atomic_write, filled
from convbert.data_pipeline.corpora.packages import Archive, Package, unpacked

Files = Iterator[tuple[str, bytes]]


@dataclass(frozen=True)
class Corpus:
    """A package, what its text is and may be used for, and how it becomes files."""

    package: Package
    license: str
    files: tuple[str, ...]
    unpack: Callable[[Archive], Files]

    def fetch(self, folder: Path) -> list[Path]:
        """Put the files into ``folder`` unless they are there; return their paths.

        Raises ``UserError`` for a failed download or a package with another digest.
        """
        paths = [folder / file for file in self.files]
        if all(path.is_file() for path in paths):
            return paths
        with filled(folder), unpacked(self.package) as archive:
            for file, content in self.unpack(archive):
                with atomic_write(folder / file) as out:
                    out.write(content)
        return paths
