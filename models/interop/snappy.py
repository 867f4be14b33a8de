"""Decompression of Snappy blocks, LevelDB's default, which a checkpoint's index may use too."""

from __future__ import annotations

from convbert.models.interop.varint import read_varint

# The low two bits of a tag: a literal, or a copy with an offset of 1, 2 or 4 bytes.
_LITERAL, _COPY_1 = 0, 1
_OFFSET_BYTES = {2: 2, 3: 4}


def decompress(data: bytes) -> bytes:
    """Return the block that ``data`` holds (Snappy format description, raw block).

    Raises IndexError or ValueError on damaged data.
    """
    expected, at = read_varint(data, 0)
    out = bytearray()
    while at < len(data):
        tag = data[at]
        at += 1
        append = _literal if tag & 3 == _LITERAL else _copy
        at = append(data, at, tag, out)
    if len(out) != expected:
        raise ValueError(f"a compressed block gives {len(out)} bytes instead of {expected}")
    return bytes(out)


def _literal(data: bytes, at: int, tag: int, out: bytearray) -> int:
    """Append a run of plain bytes; sizes from 60 are spelled out in one to four bytes."""
    size = tag >> 2
    if size >= 60:
        width = size - 59
        size = int.from_bytes(data[at : at + width], "little")
        at += width
    out += data[at : at + size + 1]
    return at + size + 1


def _copy(data: bytes, at: int, tag: int, out: bytearray) -> int:
    """Repeat earlier output; a run may reach into what it is itself producing."""
    if tag & 3 == _COPY_1:
        length, width = 4 + (tag >> 2 & 7), 1
        offset = tag >> 5 << 8 | data[at]
    else:
        length, width = 1 + (tag >> 2), _OFFSET_BYTES[tag & 3]
        offset = int.from_bytes(data[at : at + width], "little")
    if not 0 < offset <= len(out):
        raise ValueError(f"a compressed block refers back {offset} of {len(out)} bytes")
    for _ in range(length):
        out.append(out[-offset])
    return at + width
