"""The exceptions that mean "no defect": the user can fix it, or it passes by itself."""

TRANSIENT = 79
"""Exit status of a training process that met a ``TransientError``: starting it again may help."""


class UserError(ValueError):
    """A bad input, named with its file or key, the offending value and the remedy.

    The command line prints the message alone on one line and exits with status 2; every other
    exception is a defect and keeps its traceback.
    """


class TransientError(UserError):
    """What may pass without anybody's doing: an unreachable server, a file system's I/O error.

    On a cluster the job tries again, within the limit of attempts that make no progress.
    """
