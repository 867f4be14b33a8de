"""The one exception that means "the user can fix this"."""


class UserError(ValueError):
    """A bad input, named with its file or key, the offending value and the remedy.

    The command line prints the message alone on one line and exits with status 2; every other
    exception is a defect and keeps its traceback.
    """
