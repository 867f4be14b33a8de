"""Find the files that paths, directories, globs and URLs stand for."""

from collections.abc import Iterable
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec

from convbert.data_pipeline.readers.compression import split_suffix
from convbert.data_pipeline.readers.detect import SUFFIXES, by_name
from convbert.models.errors import AbsentError, UserError

PLAIN = ("text", "jsonl", "csv", "tsv")


@dataclass(frozen=True)
class Part:
    """Bytes ``[first, last)`` of a file, or its row groups if it is parquet; ``size`` in bytes."""

    first: int
    last: int
    size: int
    is_last: bool


@dataclass(frozen=True)
class InputFile:
    """A local path or a URL, and the part of it that is meant if it is not the whole."""

    name: str
    part: Part | None = None

    @property
    def label(self) -> str:
        """The name, with the first byte or row group of a part that does not begin the file."""
        return f"{self.name}@{self.part.first}" if self.part and self.part.first else self.name

    def open(self) -> BinaryIO:
        """Open the stored bytes; raises ``OSError``."""
        if not is_url(self.name):
            return Path(self.name).open("rb")
        filesystem, path = _remote(self.name)
        return cast(BinaryIO, filesystem.open(path, "rb"))

    @property
    def is_plain(self) -> bool:
        """Whether the stored size is about that of the text, judged by the name."""
        return split_suffix(self.name)[1] is None and by_name(self.name) in PLAIN

    def size(self) -> int:
        """Return the number of stored bytes."""
        if self.part is not None:
            return self.part.size
        if not is_url(self.name):
            return Path(self.name).stat().st_size
        filesystem, path = _remote(self.name)
        return int(filesystem.size(path) or 0)

    def version(self) -> str:
        """Return what changes with the content: the time of the change, or the store's own mark."""
        if not is_url(self.name):
            return str(Path(self.name).stat().st_mtime_ns)
        filesystem, path = _remote(self.name)
        return str(filesystem.ukey(path))


def is_url(name: str) -> bool:
    """Return whether a name is an address such as ``s3://bucket/key``, not a path."""
    return "://" in name


def _remote(url: str) -> tuple[Any, str]:
    """Return the file system of a URL and the path in it."""
    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise UserError(f"{url}: needs another package: {error}") from None
    except ValueError as error:
        raise UserError(f"{url}: cannot be opened ({error}); check the URL") from None


def input_files(inputs: Iterable[str | Path]) -> list[InputFile]:
    """Expand files, directories, globs and URLs to a list in a fixed order, each file once.

    A directory stands for the files below it whose names tell their format. Raises
    ``AbsentError`` for an entry without a readable file.
    """
    files: dict[InputFile, None] = {}
    for entry in map(str, inputs):
        found = _remote_files(entry) if is_url(entry) else _local_files(entry)
        if not found:
            raise AbsentError(
                f"{entry}: no such file and no readable file below it; check the path (a directory "
                f"is searched for {', '.join(SUFFIXES)}, also compressed)"
            )
        files |= dict.fromkeys(InputFile(name) for name in found)
    return list(files)


def _local_files(entry: str) -> list[str]:
    matches = [entry] if Path(entry).exists() else sorted(glob(entry, recursive=True))
    return [file for match in matches for file in _below(Path(match))]


def _below(path: Path) -> list[str]:
    """List the readable files below a directory; a file stands for itself."""
    if not path.is_dir():
        return [str(path)]
    return [str(p) for p in sorted(path.rglob("*")) if by_name(p.name) and p.is_file()]


def _remote_files(url: str) -> list[str]:
    filesystem, path = _remote(url)
    try:
        if has_magic(path):
            found = [p for p in sorted(filesystem.glob(path)) if not filesystem.isdir(p)]
        elif filesystem.isdir(path):
            found = [p for p in sorted(filesystem.find(path)) if by_name(p)]
        else:
            return [url] if filesystem.exists(path) else []
    except Exception as error:  # every file system has its own: no credentials, no route, ...
        raise UserError(
            f"{url}: cannot be listed ({type(error).__name__}: {' '.join(str(error).split())}); "
            "check the URL and the credentials"
        ) from None
    return [filesystem.unstrip_protocol(p) for p in found]
