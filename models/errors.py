"""Errors that a user can mend, or that pass by themselves; every other exception is a defect."""

from typing import ClassVar, Literal

Kind = Literal["refused", "absent", "damaged", "may pass"]


class UserError(ValueError):
    """A bad input, named with its file or key, the offending value and the remedy.

    The command line prints the message alone on one line and exits with status 2; every other
    exception is a defect and keeps its traceback. Raised as itself it is a refusal: a setting or a
    request that cannot be carried out. Code that has to tell the kinds apart catches a subclass,
    never reads the message.
    """

    kind: ClassVar[Kind] = "refused"


class AbsentError(UserError):
    """Something that was asked for is not there: a file, a directory, a part of a checkpoint."""

    kind = "absent"


class DamagedError(UserError):
    """Something is there, and is not what it should be: cut, altered or of another format."""

    kind = "damaged"


class TransientError(UserError):
    """What may pass without anybody's doing: an unreachable server, a file system's I/O error.

    On a cluster the job tries again, within the limit of attempts that make no progress.
    """

    kind = "may pass"
