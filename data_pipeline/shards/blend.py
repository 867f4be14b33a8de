"""Weighted mixing of corpora: which one stands at a global position, computed, never stored.

Positions are dealt to the sources by nested Bresenham lines: the sources are halved again and
again, and of the first p positions of a group, ``floor(p * left / total)`` belong to its left half.
So the source of a position, and how many positions that source had before, follow from the position
and the weights alone, in exact integer arithmetic. In any run of consecutive positions a source's
count differs from its share by at most ``2 * (1 + ceil(log2(sources)))``.
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]

_TOTAL = 1 << 30


class Blend:
    """Shares of sources with the given positive weights; only their ratios count."""

    def __init__(self, weights: Sequence[float]) -> None:
        exact = [Fraction(str(weight)) for weight in weights]
        total = sum(exact)
        self.parts = [max(1, round(_TOTAL * weight / total)) for weight in exact]

    def share(self, source: int) -> float:
        """Return the share of a source in all positions."""
        return self.parts[source] / sum(self.parts)

    def split(self, first: int, last: int) -> tuple[Indices, list[int]]:
        """Deal the positions ``first`` to ``last``, excluded.

        Returns the source of each, and for every source the number of positions it had before
        ``first``: its positions here are the ones that follow, in order.
        """
        source_of = np.zeros(last - first, dtype=np.int64)
        before = [0] * len(self.parts)

        def deal(low: int, high: int, start: int, places: Indices) -> None:
            if high - low == 1:
                source_of[places], before[low] = low, start
                return
            middle = (low + high) // 2
            left, total = sum(self.parts[low:middle]), sum(self.parts[low:high])
            whole, rest = divmod(left * start, total)
            lefts = (rest + left * np.arange(len(places) + 1)) // total
            is_left = np.diff(lefts) > 0
            deal(low, middle, whole, places[is_left])
            deal(middle, high, start - whole, places[~is_left])

        deal(0, len(self.parts), first, np.arange(last - first))
        return source_of, before
