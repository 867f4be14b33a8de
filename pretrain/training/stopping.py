"""SIGTERM, SIGINT, SIGUSR1 and SIGHUP as a request to stop after the current update."""

import signal
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


def handle(number: int, handler: Any) -> Any:
    """Set the handler of a stop signal and return the one before.

    A SIGHUP that nohup has the process ignore stays ignored: the terminal may go away.
    """
    before = signal.getsignal(number)
    if number == signal.SIGHUP and before is signal.SIG_IGN:
        return before
    return signal.signal(number, handler)


class StopRequest:
    """Context in which the stop signals set ``requested`` instead of ending the process.

    A second signal of the same kind acts as it would without this context, so an impatient
    Ctrl-C still works.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        for number in SIGNALS:
            self._previous[number] = handle(number, self._note)
        # A launcher may have held them back so that none is lost while the process starts.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        signal.signal(number, self._previous[number])
