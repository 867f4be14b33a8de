"""Errors that a user can correct, or that pass by themselves; any other exception is a defect."""

import difflib
from collections.abc import Iterable
from typing import ClassVar, Literal

ErrorKind = Literal["refused", "absent", "damaged", "may pass"]


class UserError(ValueError):
    """A bad input, named with its file or key, the offending value and the remedy.

    The command line prints the message alone, on one line, and exits with status 2; every other
    exception keeps its traceback. The class itself stands for a refusal: a setting or a request
    that cannot be carried out. Code that handles the kinds differently catches a subclass and
    never reads the message.
    """

    kind: ClassVar[ErrorKind] = "refused"


class AbsentError(UserError):
    """Something that was asked for is not there: a file, a directory, a part of a checkpoint."""

    kind = "absent"


class DamagedError(UserError):
    """Something is there but is not what it should be: cut, altered or in another format."""

    kind = "damaged"


class TransientError(UserError):
    """A fault that may pass by itself: an unreachable server, an I/O error of a file system.

    On a cluster the job tries again, within the limit of attempts that make no progress.
    """

    kind = "may pass"


def choose_one(given: str, known: Iterable[str]) -> str:
    """Return ``choose one of NAMES``, behind the one that was probably meant."""
    names = list(known)
    close = difflib.get_close_matches(given, names, n=1)
    perhaps = f"did you mean {close[0]}? " if close else ""
    return f"{perhaps}choose one of {', '.join(names)}"
