"""Dropout whose random numbers cost less than the arithmetic around them.

A compiled graph draws each of PyTorch's random numbers by itself, ten rounds of Philox: a fifth of
a training step on a CPU, in scalar code, and four fifths of a layer norm's time on a GPU. Hashing
the element's index with one drawn seed takes a few instructions inside the loop that uses it (that
of the sum and the norm behind it), and the backward pass can repeat it instead of keeping a mask.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_BITS = 32


class Dropout(nn.Module):
    """``nn.Dropout`` with masks that are cheap in a compiled graph."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Return x with a share ``p`` of its elements zeroed and the rest scaled, when training."""
        return dropout(x, self.p) if self.training else x


def dropout(x: Tensor, p: float) -> Tensor:
    """Zero each element with probability ``p`` and divide the others by ``1 - p``.

    At 0 this is no operation: no random number is drawn and no mask made.
    """
    if p == 0.0:
        return x
    if not torch.compiler.is_compiling():
        return F.dropout(x, p)
    # Drawn as a float: the compiler would draw an integer anew for every element.
    seed = torch.rand((), device=x.device)
    # Recomputed from the seed: stored, a mask would take memory and a slow conversion to bool.
    return checkpoint(_zero_some, x, seed, p, use_reentrant=False)


def _zero_some(x: Tensor, seed: Tensor, p: float) -> Tensor:
    kept = _hashed_integers(x.shape, seed) >= round(p * 2**_BITS) - 2 ** (_BITS - 1)
    return torch.where(kept, x * (1.0 / (1.0 - p)), 0.0)


def _hashed_integers(shape: torch.Size, seed: Tensor) -> Tensor:
    """Return int32 numbers, uniform over all values, that are a hash of index and seed.

    The hash is lowbias32 (Wellons, Hash Prospector). The seed, spread over all bits, is where this
    call starts to count. Shifts of signed numbers are masked to be those of unsigned ones.
    """
    start = (seed * 2**24).to(torch.int32) * -0x61C8864F
    count = torch.arange(shape.numel(), dtype=torch.int32, device=seed.device).view(shape)
    mixed = start + count
    mixed = (mixed ^ ((mixed >> 16) & 0xFFFF)) * 0x7FEB352D
    mixed = (mixed ^ ((mixed >> 15) & 0x1FFFF)) * -0x7B935975
    return mixed ^ ((mixed >> 16) & 0xFFFF)
