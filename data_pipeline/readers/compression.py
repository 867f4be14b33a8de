"""Open a compressed file as a stream of its content."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from convbert.data_pipeline.extras import load_extra

BUFFER_BYTES = 1 << 17


@dataclass(frozen=True)
class Compression:
    """A compressed format: its name, the first bytes of its files and what opens them."""

    name: str
    magic: bytes
    open: Callable[[BinaryIO], Any]


def _zstandard(file: BinaryIO) -> Any:
    """Open Zstandard with windows of up to 2 GiB, which ``zstd --long=31`` writes."""
    zstd = load_extra("backports.zstd", "corpus", "reading Zstandard")
    bounds = zstd.DecompressionParameter.window_log_max.bounds()
    options = {zstd.DecompressionParameter.window_log_max: bounds[1]}
    return zstd.open(file, "rb", options=options)


_GZIP = Compression("gzip", b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file))
_BZIP2 = Compression("bzip2", b"BZh", bz2.BZ2File)
_XZ = Compression("xz", b"\xfd7zXZ\x00", lzma.LZMAFile)
_ZSTANDARD = Compression("Zstandard", b"\x28\xb5\x2f\xfd", _zstandard)

BY_SUFFIX = {
    ".gz": _GZIP,
    ".bz2": _BZIP2,
    ".xz": _XZ,
    ".zst": _ZSTANDARD,
    ".zstd": _ZSTANDARD,
}


class Unpacked(io.BufferedReader):
    """The content of a compressed file, which can only be read forwards."""

    def seekable(self) -> bool:
        """Return False: going back would unpack everything again."""
        return False


def split_suffix(name: str) -> tuple[str, Compression | None]:
    """Split ``a.txt.gz`` into ``a.txt`` and gzip; other names come back whole."""
    for suffix, compression in BY_SUFFIX.items():
        if name.lower().endswith(suffix):
            return name[: -len(suffix)], compression
    return name, None


def decompressed(file: BinaryIO, compression: Compression | None) -> io.BufferedReader:
    """Return a stream of the content; if none is given, its first bytes show the compression.

    An empty file is an empty stream under any name.
    """
    raw = io.BufferedReader(cast(Any, file), BUFFER_BYTES)
    head = raw.peek(8)
    known = compression or next((c for c in BY_SUFFIX.values() if head.startswith(c.magic)), None)
    if not head or known is None:
        return raw
    return Unpacked(known.open(cast(BinaryIO, raw)), BUFFER_BYTES)


def is_damage(error: Exception) -> bool:
    """Return whether an error means that compressed content is truncated or altered.

    bzip2 has no error of its own: it raises ``OSError`` without a number.
    """
    known = (EOFError, zlib.error, lzma.LZMAError)
    unnumbered = isinstance(error, OSError) and error.errno is None
    return isinstance(error, known) or unnumbered or type(error).__name__ == "ZstdError"
