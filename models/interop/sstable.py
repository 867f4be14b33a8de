"""Reader of LevelDB's table format, in which TensorFlow keeps the index of a checkpoint.

A table is a sequence of blocks, each followed by a compression byte and a checksum, an index
block that points to them, and a footer that points to the index (LevelDB, table_format.md).
TensorFlow writes its blocks uncompressed.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

from convbert.models.errors import UserError

_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES, _TRAILER_BYTES = 48, 5
_MASK_DELTA = 0xA282EAD8


def masked_crc32c(data: bytes | bytearray) -> int:
    """Return the CRC-32C as TensorFlow and LevelDB store it: rotated by 15 bits, plus a constant.

    Raises ``UserError`` where the optional package is not installed: no checkpoint is read
    unchecked.
    """
    try:
        from crc32c import crc32c
    except ImportError:
        raise UserError(
            "reading a TensorFlow checkpoint needs the package 'crc32c'; install it with the "
            "extra 'tf': in the checkout, pip install '.[tf]'"
        ) from None
    checksum = crc32c(data)
    return ((checksum >> 15 | checksum << 17) + _MASK_DELTA) & 0xFFFFFFFF


def read_table(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a table in order, every block checked against its checksum.

    Raises ``ValueError``, ``IndexError`` or ``struct.error`` for a damaged table, and
    ``UserError`` for a compressed one.
    """
    table = path.read_bytes()
    footer = table[-_FOOTER_BYTES:]
    if len(footer) < _FOOTER_BYTES or struct.unpack("<Q", footer[-8:])[0] != _MAGIC:
        raise ValueError("it does not end as an index does, so it was cut short or is another file")
    _, at = _read_handle(footer, 0)
    index_handle, _ = _read_handle(footer, at)
    for _, handle in _entries(_read_block(path, table, index_handle)):
        yield from _entries(_read_block(path, table, _read_handle(handle, 0)[0]))


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the base-128 integer that starts at ``at`` and the position behind it."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _read_handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Return a block's offset and size, and the position behind them."""
    offset, at = read_varint(data, at)
    size, at = read_varint(data, at)
    return (offset, size), at


def _read_block(path: Path, table: bytes, handle: tuple[int, int]) -> bytes:
    offset, size = handle
    stored = table[offset : offset + size + _TRAILER_BYTES]
    if len(stored) != size + _TRAILER_BYTES:
        raise ValueError(f"the block at byte {offset} runs past the end of the file")
    checked, checksum = stored[: size + 1], struct.unpack("<I", stored[size + 1 :])[0]
    if masked_crc32c(checked) != checksum:
        raise ValueError(f"the block at byte {offset} fails its checksum")
    if checked[size]:
        raise UserError(
            f"{path}: the block at byte {offset} is compressed, which no TensorFlow writes: save "
            "the checkpoint with TensorFlow again"
        )
    return checked[:size]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield a block's entries; each key names how many bytes it shares with the one before."""
    restarts = struct.unpack("<I", block[-4:])[0]
    end = len(block) - 4 * (restarts + 1)
    at, key = 0, b""
    while at < end:
        shared, at = read_varint(block, at)
        unshared, at = read_varint(block, at)
        value_size, at = read_varint(block, at)
        key = key[:shared] + block[at : at + unshared]
        at += unshared
        yield key, block[at : at + value_size]
        at += value_size
