"""How long fuzzing goes on, and from where: what ``make fuzz`` and the slow suite share."""

import os
import time
from collections.abc import Callable


def minutes() -> float:
    """Return the minutes of one kind: a third of FUZZ_MINUTES."""
    return float(os.environ.get("FUZZ_MINUTES", "1")) / 3


def for_a_while(check: Callable[[int], None]) -> None:
    """Call ``check`` with rising numbers, from FUZZ_FIRST (1) on, until the time is over.

    Each case follows from its number, which failures name; 20 of them end it.
    """
    first = int(os.environ.get("FUZZ_FIRST", "1"))
    end = time.monotonic() + 60 * minutes()
    number, failures = first, []
    while time.monotonic() < end and len(failures) < 20:
        try:
            check(number)
        except Exception as error:
            failures.append(f"{number}: {error!r:.1000}")
        number += 1
    print(f"{number - first} cases from number {first}")
    assert number > first
    assert not failures, "\n".join(failures)
