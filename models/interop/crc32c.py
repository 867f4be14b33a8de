"""CRC-32C (Castagnoli), the checksum of TensorFlow's files, at array speed.

The checksum is linear over GF(2), so a buffer is cut into lanes of equal length whose registers
advance together as one array, and the lanes' results are then folded in pairs. Zeros in front
leave a zero register at zero, which is how the buffer is padded to whole lanes.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_Registers = NDArray[np.uint32]

_POLYNOMIAL = np.uint32(0x82F63B78)
_WORD = 8
_MOST_LANES = 1 << 14
_LANE_BYTES = 1024
# These four bytes take a zero register to all ones, where the checksum starts.
_PRIMER = bytes.fromhex("54641f64")
_MASK_DELTA = 0xA282EAD8


def _tables() -> NDArray[np.uint32]:
    """Return table[k][b]: the register after byte b and k zero bytes."""
    table = np.zeros((_WORD, 256), np.uint32)
    register: _Registers = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        register = (register >> np.uint32(1)) ^ (register & np.uint32(1)) * _POLYNOMIAL
    table[0] = register
    for zeros in range(1, _WORD):
        table[zeros] = (table[zeros - 1] >> 8) ^ table[0][table[zeros - 1] & 0xFF]
    return table


_TABLE = _tables()


def _apply(operator: _Registers, registers: _Registers) -> _Registers:
    """Multiply each register by a 32 x 32 bit matrix given by its columns."""
    result = np.zeros_like(registers)
    for bit in range(32):
        result ^= np.where((registers >> np.uint32(bit)) & 1, operator[bit], np.uint32(0))
    return result


@lru_cache(maxsize=64)
def _zeros_operator(count: int) -> _Registers:
    """Return the matrix that advances a register over ``count`` zero bytes."""
    result = np.uint32(1) << np.arange(32, dtype=np.uint32)
    power = (result >> 8) ^ _TABLE[0][result & 0xFF]
    while count:
        if count & 1:
            result = _apply(power, result)
        power = _apply(power, power)
        count >>= 1
    return result


def crc32c(data: bytes | bytearray | memoryview) -> int:
    """Return the CRC-32C of ``data`` (RFC 3720, section 12.1)."""
    primed = len(data) + len(_PRIMER)
    lanes = 1 << (max(1, min(_MOST_LANES, primed // _LANE_BYTES)).bit_length() - 1)
    lane_words = -(-primed // (lanes * _WORD))
    buffer = np.zeros(lanes * lane_words * _WORD, np.uint8)
    buffer[-primed : len(buffer) - len(data)] = np.frombuffer(_PRIMER, np.uint8)
    buffer[len(buffer) - len(data) :] = np.frombuffer(data, np.uint8)
    words = buffer.view("<u8").reshape(lanes, lane_words)
    registers = np.zeros(lanes, np.uint32)
    for column in range(lane_words):
        word = words[:, column] ^ registers
        registers = np.zeros(lanes, np.uint32)
        for byte in range(_WORD):
            registers ^= _TABLE[_WORD - 1 - byte][(word >> np.uint64(8 * byte)) & np.uint64(0xFF)]
    operator = _zeros_operator(lane_words * _WORD)
    while len(registers) > 1:
        registers = _apply(operator, registers[0::2]) ^ registers[1::2]
        operator = _apply(operator, operator)
    return int(registers[0]) ^ 0xFFFFFFFF


def masked_crc32c(data: bytes | bytearray | memoryview) -> int:
    """Return the checksum as TensorFlow and LevelDB store it, rotated and shifted.

    It is masked so that a checksum of data that holds checksums stays strong.
    """
    checksum = crc32c(data)
    rotated = (checksum >> 15) | (checksum << 17)
    return (rotated + _MASK_DELTA) & 0xFFFFFFFF
