"""A writer of TensorFlow checkpoints, made from the description of the format alone.

It shares no code with the reader: checksums bit by bit, messages and blocks put together by hand.
"""

import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

_DTYPE_NUMBERS = {
    torch.float32: 1,
    torch.float64: 2,
    torch.int32: 3,
    torch.int64: 9,
    torch.bfloat16: 14,
    torch.float16: 19,
}


def _checksum_table() -> list[int]:
    table = []
    for register in range(256):
        for _ in range(8):
            register = register >> 1 ^ 0x82F63B78 * (register & 1)
        table.append(register)
    return table


_TABLE = _checksum_table()


def _masked_checksum(data: bytes) -> int:
    register = 0xFFFFFFFF
    for byte in data:
        register = register >> 8 ^ _TABLE[(register ^ byte) & 0xFF]
    register ^= 0xFFFFFFFF
    return ((register >> 15 | register << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def _number(field: int, value: int) -> bytes:
    """A default value is left out, as protocol buffers do."""
    return _varint(field << 3) + _varint(value) if value else b""


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _entry(tensor: Tensor, offset: int, content: bytes) -> bytes:
    shape = b"".join(_message(2, _number(1, size)) for size in tensor.shape)
    return (
        _number(1, _DTYPE_NUMBERS[tensor.dtype])
        + _message(2, shape)
        + _number(4, offset)
        + _number(5, len(content))
        + _varint(6 << 3 | 5)
        + struct.pack("<I", _masked_checksum(content))
    )


def _block(entries: list[tuple[bytes, bytes]], restart_interval: int) -> bytes:
    out, restarts, previous = b"", [], b""
    for position, (key, value) in enumerate(entries):
        shared = 0
        if position % restart_interval == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(previous)) and key[shared] == previous[shared]:
                shared += 1
        out += _varint(shared) + _varint(len(key) - shared) + _varint(len(value))
        out += key[shared:] + value
        previous = key
    restarts = restarts or [0]
    return out + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def _snappy(block: bytes) -> bytes:
    """A compressed block that happens to be one literal."""
    return _varint(len(block)) + b"\xf4" + struct.pack("<H", len(block) - 1) + block


class _Table:
    """Appends blocks with their trailers and remembers where they are."""

    def __init__(self, compressed: bool) -> None:
        self.content = b""
        self.compressed = compressed

    def add(self, block: bytes) -> bytes:
        stored = _snappy(block) if self.compressed else block
        handle = _varint(len(self.content)) + _varint(len(stored))
        checked = stored + bytes([self.compressed])
        self.content += checked + struct.pack("<I", _masked_checksum(checked))
        return handle


def _table(entries: list[tuple[bytes, bytes]], entries_per_block: int, compressed: bool) -> bytes:
    table, index = _Table(compressed), []
    for start in range(0, len(entries), entries_per_block):
        part = entries[start : start + entries_per_block]
        index.append((part[-1][0], table.add(_block(part, restart_interval=16))))
    handles = table.add(_block([], 1)) + table.add(_block(index, restart_interval=1))
    return table.content + handles.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def _content(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _write_bundle(prefix: Path, tensors: Mapping[str, Tensor], compressed: bool = False) -> Path:
    header = _number(1, 1) + _message(3, _number(1, 1))
    entries, data = [(b"", header)], b""
    for name, tensor in sorted(tensors.items()):
        content = _content(tensor)
        entries.append((name.encode(), _entry(tensor, len(data), content)))
        data += content
    prefix.parent.mkdir(parents=True, exist_ok=True)
    index = _table(entries, 40, compressed)
    prefix.with_name(prefix.name + ".index").write_bytes(index)
    prefix.with_name(prefix.name + ".data-00000-of-00001").write_bytes(data)
    return prefix


@pytest.fixture
def write_bundle() -> Callable[..., Path]:
    """Write tensors (prefix, tensors, compressed=False) as a checkpoint and return its prefix."""
    return _write_bundle
