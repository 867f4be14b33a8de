"""Why MLflow could not be spoken to, in as many words as it takes."""

import socket
from collections.abc import Iterator

from convbert.pretrain.run.tracking_uri import without_login


def in_short(error: BaseException) -> str:
    """Return why a request failed; of a server that is away, what the system says of it.

    Through the layers of HTTP libraries a refused connection has become 500 characters.
    """
    for cause in _causes(error):
        if isinstance(cause, ConnectionError | TimeoutError | socket.gaierror):
            return f"no answer ({cause.strerror or cause})"
    return without_login(str(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
