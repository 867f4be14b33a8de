"""What a minimal pair is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """A sentence and a worse one; ``kind`` names what makes it worse."""

    good: str
    bad: str
    kind: str
