"""Random numbers as a function of (seed, stream, sequence, slot), not of a generator's history.

Masking and sampling draw from here, so a sequence is corrupted in the same way on any number of
processes, in any micro-batch and after any restart. The mixer is SplitMix64's finaliser (Steele,
Lea and Flood 2014), evaluated on the device with wrapping 64-bit integers.
"""

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_WORD = 1 << 64


def _signed(value: int) -> int:
    """Reinterpret an unsigned 64-bit value as the signed one PyTorch stores."""
    value %= _WORD
    return value - _WORD if value >= _WORD // 2 else value


def _shift(x: Tensor, bits: int) -> Tensor:
    """Shift right and fill with zeros: PyTorch's shift of a signed integer copies the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _signed(_MIX_1)
    x = (x ^ _shift(x, 27)) * _signed(_MIX_2)
    return x ^ _shift(x, 31)


def mix(*words: int) -> int:
    """Hash integers to one in [0, 2**63), for seeding a generator."""
    state = 0
    for word in words:
        z = (state ^ word) + _GOLDEN
        z = ((z ^ (z % _WORD >> 30)) * _MIX_1) % _WORD
        z = ((z ^ (z >> 27)) * _MIX_2) % _WORD
        state = z ^ (z >> 31)
    return state >> 1


def uniform(seed: int, stream: int, positions_B: Tensor, count: int) -> Tensor:
    """Draw ``count`` numbers in [0, 1) for every sequence.

    ``positions_B`` holds the global positions of the sequences (int64); the result is float32
    [B, count] with 24 random bits each. Different ``stream`` numbers are independent.
    """
    key = _signed(mix(seed, stream))
    row_B = _mix(positions_B * _signed(_GOLDEN) + key)
    slot = torch.arange(1, count + 1, device=positions_B.device)
    bits = _mix(row_B[:, None] + slot * _signed(_GOLDEN))
    return _shift(bits, 40).to(torch.float32) * 2.0**-24
