"""A part of a file as a stream of its own."""

import io
from typing import cast

from convbert.data_pipeline.readers.compression import BUFFER_BYTES
from convbert.data_pipeline.readers.inputs import Part


class _Span(io.RawIOBase):
    """Bytes ``[first, last)`` of a stream between two strings."""

    def __init__(self, stream: io.BufferedReader, part: Part, before: bytes, after: bytes) -> None:
        self._stream = stream
        self._left = part.last - part.first
        self._before, self._after = before, after
        stream.seek(part.first)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer)).cast("B")
        if self._before:
            return self._hand(view, "_before")
        count = self._stream.readinto(view[: self._left])
        self._left = self._left - count if count else 0  # a file that shrank ends early
        return count or self._hand(view, "_after")

    def _hand(self, view: memoryview, name: str) -> int:
        content: bytes = getattr(self, name)
        count = min(len(view), len(content))
        view[:count] = content[:count]
        setattr(self, name, content[count:])
        return count


def part_of(
    stream: io.BufferedReader, part: Part, before: bytes = b"", after: bytes = b""
) -> io.BufferedReader:
    """Return the bytes of a part; one that does not begin the file gets ``before`` it.

    So does one that does not end it get ``after``.
    """
    span = _Span(stream, part, before if part.first else b"", b"" if part.is_last else after)
    return io.BufferedReader(span, BUFFER_BYTES)
