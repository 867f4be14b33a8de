"""Base-128 integers and the protocol-buffer wire format built on them."""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the integer that starts at ``at`` and the position behind it."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def read_message(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield field number and value of each field of a protocol-buffer message.

    Raises IndexError when the message ends inside an integer, ValueError when a field has a wire
    type that no current message uses or runs past the end.
    """
    at = 0
    while at < len(data):
        key, at = read_varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = read_varint(data, at)
            yield number, value
            continue
        if wire == _BYTES:
            size, at = read_varint(data, at)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"field {number} has the unknown wire type {wire}")
        field = data[at : at + size]
        if len(field) != size:
            raise ValueError(f"field {number} runs past the end of its message")
        at += size
        yield number, field if wire == _BYTES else int.from_bytes(field, "little")
