"""Which global batch an update reads: all in order, except spans that were left out."""


class DataOrder:
    """The order of global batches without the left-out spans; with the step, all state of data."""

    def __init__(self, global_batch: int, skipped: list[list[int]] | None = None) -> None:
        """Leave out spans ``[first, last)`` of global positions, as ``state`` returns them."""
        self.global_batch = global_batch
        self._spans = sorted((a // global_batch, b // global_batch) for a, b in skipped or [])

    def number(self, step: int) -> int:
        """Return the number of the global batch that update ``step`` (from 0) reads."""
        number = step
        for first, last in self._spans:
            if first <= number:
                number += last - first
        return number

    def leave_out(self, first: int, last: int) -> None:
        """Never read the global batches ``first`` to ``last - 1`` (again)."""
        merged: list[tuple[int, int]] = []
        for low, high in sorted([*self._spans, (first, last)]):
            if merged and low <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
            else:
                merged.append((low, high))
        self._spans = merged

    def state(self) -> list[list[int]]:
        """Return the left-out spans in global positions."""
        return [
            [first * self.global_batch, last * self.global_batch] for first, last in self._spans
        ]
