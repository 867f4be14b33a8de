"""Exit statuses of training processes, jobs and the command line, in one place.

The job script gets those it needs from here when it is written. None of them is one that Python,
srun or a signal (128 + n) uses.
"""

FINISHED = 0
FAILED = 1
"""An exception nobody expected: a defect, or a machine's failure."""

USER_ERROR = 2
"""A ``UserError``: starting again cannot help."""

NOTHING_LEFT = 3
"""A job found its run finished."""

STOPPED = 75
"""Stopped as asked, with a checkpoint to go on from."""

BAD_NODE = 76
"""Preflight found nodes unfit."""

HUNG = 77
"""The watchdog ended a process that made no progress."""

UNCHECKED = 78
"""Preflight was cut off, so nothing is known about the nodes."""

TRANSIENT = 79
"""A ``TransientError``: starting again may help."""
