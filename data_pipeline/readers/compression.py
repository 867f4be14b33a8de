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


class _Streams(io.RawIOBase):
    """The content of a file of compressed streams, one behind the other, with zeros between them.

    Python's own ``BZ2File`` and ``LZMAFile`` take a stream whose beginning is damaged for something
    else behind the last one: they end there, without it and all that follow.
    """

    def __init__(self, file: BinaryIO, new: Callable[[], Any]) -> None:
        self._file, self._new = file, new
        self._stream = new()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer)).cast("B")
        while True:
            content = b""
            if self._stream.eof:
                content = self._next()
                if not content:
                    return 0
                self._stream = self._new()
            elif self._stream.needs_input:
                content = self._file.read(BUFFER_BYTES)
                if not content:
                    raise EOFError("it ends before its last stream does")
            found = self._stream.decompress(content, len(view))
            if found:
                view[: len(found)] = found
                return len(found)

    def _next(self) -> bytes:
        """Return how what follows begins."""
        start: bytes = self._stream.unused_data.lstrip(b"\0")
        while not start and (more := self._file.read(BUFFER_BYTES)):
            start = more.lstrip(b"\0")
        return start


def _zstandard(file: BinaryIO) -> Any:
    """Open Zstandard with windows of up to 2 GiB, which ``zstd --long=31`` writes."""
    zstd = load_extra("backports.zstd", "corpus", "reading Zstandard")
    bounds = zstd.DecompressionParameter.window_log_max.bounds()
    options = {zstd.DecompressionParameter.window_log_max: bounds[1]}
    return zstd.open(file, "rb", options=options)


_GZIP = Compression("gzip", b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file))
_BZIP2 = Compression("bzip2", b"BZh", lambda file: _Streams(file, bz2.BZ2Decompressor))
_XZ = Compression("xz", b"\xfd7zXZ\x00", lambda file: _Streams(file, lzma.LZMADecompressor))
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
