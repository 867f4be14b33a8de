"""Files that are read: local paths and URLs, whole or in part."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec

from convbert.data_pipeline.readers.compression import split_suffix
from convbert.data_pipeline.readers.detect import by_name
from convbert.models.errors import UserError

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
        filesystem, path = remote(self.name)
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
        filesystem, path = remote(self.name)
        return int(filesystem.size(path) or 0)

    def version(self) -> str:
        """Return what changes with the content: the time of the change, or the store's own mark."""
        if not is_url(self.name):
            return str(Path(self.name).stat().st_mtime_ns)
        filesystem, path = remote(self.name)
        return str(filesystem.ukey(path))


def is_url(name: str) -> bool:
    """Return whether a name is an address such as ``s3://bucket/key``, not a path."""
    return "://" in name


def remote(url: str) -> tuple[Any, str]:
    """Return the file system of a URL and the path in it."""
    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise UserError(f"{url}: needs another package: {error}") from None
    except ValueError as error:
        raise UserError(f"{url}: cannot be opened ({error}); check the URL") from None
