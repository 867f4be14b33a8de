"""Random numbers as a function of (seed, stream, sequence, slot), not of a generator's history.

Masking and sampling use these numbers, so a sequence is corrupted in the same way on any number
of processes, in any micro-batch and after any restart. The mixer is SplitMix64's finalizer (Steele,
Lea and Flood 2014), evaluated on the device with wrapping 64-bit integers.
"""

import torch
from torch import Tensor

from convbert.pretrain.run.seeds import GOLDEN, MIX_1, MIX_2, WORD, mix


def _signed(value: int) -> int:
    """Reinterpret an unsigned 64-bit value as the signed one PyTorch stores."""
    value %= WORD
    return value - WORD if value >= WORD // 2 else value


def _shift(x: Tensor, bits: int) -> Tensor:
    """Shift right and fill with zeros: PyTorch's shift of a signed integer copies the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _signed(MIX_1)
    x = (x ^ _shift(x, 27)) * _signed(MIX_2)
    return x ^ _shift(x, 31)


def uniform(seed: int, stream: int, positions_B: Tensor, count: int) -> Tensor:
    """Return ``count`` numbers in [0, 1) for every sequence.

    ``positions_B`` holds the global positions of the sequences (int64); the result is float32
    [B, count] with 24 random bits each. Different ``stream`` numbers are independent.
    """
    key = _signed(mix(seed, stream))
    row_B = _mix(positions_B * _signed(GOLDEN) + key)
    slot = torch.arange(1, count + 1, device=positions_B.device)
    bits = _mix(row_B[:, None] + slot * _signed(GOLDEN))
    return _shift(bits, 40).to(torch.float32) * 2.0**-24
