"""Reader of LevelDB's table format, in which TensorFlow keeps the index of a checkpoint.

A table is a sequence of blocks, each followed by a compression byte and a checksum, an index
block that points to them, and a footer that points to the index (LevelDB, table_format.md).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from convbert.models.interop.crc32c import masked_crc32c
from convbert.models.interop.snappy import decompress
from convbert.models.interop.varint import read_varint

_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES, _TRAILER_BYTES = 48, 5


def _stored(block: bytes) -> bytes:
    return block


_COMPRESSIONS: dict[int, Callable[[bytes], bytes]] = {0: _stored, 1: decompress}


def read_table(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of ``table`` in order, every block checked against its checksum.

    Raises ValueError or IndexError that says what is wrong when the table is damaged.
    """
    footer = table[-_FOOTER_BYTES:]
    if len(footer) < _FOOTER_BYTES or struct.unpack("<Q", footer[-8:])[0] != _MAGIC:
        raise ValueError("it does not end as an index does, so it was cut short or is another file")
    _, at = _read_handle(footer, 0)
    index_handle, _ = _read_handle(footer, at)
    for _, handle in _entries(_read_block(table, index_handle)):
        yield from _entries(_read_block(table, _read_handle(handle, 0)[0]))


def _read_handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Return a block's offset and size, and the position behind them."""
    offset, at = read_varint(data, at)
    size, at = read_varint(data, at)
    return (offset, size), at


def _read_block(table: bytes, handle: tuple[int, int]) -> bytes:
    offset, size = handle
    stored = table[offset : offset + size + _TRAILER_BYTES]
    if len(stored) != size + _TRAILER_BYTES:
        raise ValueError(f"the block at byte {offset} runs past the end of the file")
    checked, checksum = stored[: size + 1], struct.unpack("<I", stored[size + 1 :])[0]
    if masked_crc32c(checked) != checksum:
        raise ValueError(f"the block at byte {offset} fails its checksum")
    compression = checked[size]
    if compression not in _COMPRESSIONS:
        raise ValueError(f"the block at byte {offset} has the unknown compression {compression}")
    return _COMPRESSIONS[compression](checked[:size])


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
