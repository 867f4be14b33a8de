"""The background thread that delivers a run's records to MLflow while it trains."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from convbert.pretrain.tracking.mlflow_delivery import Delivery

logger = logging.getLogger(__name__)


class Spool:
    """The thread that delivers while the run goes on; its failures never reach training."""

    def __init__(
        self,
        delivery: Delivery,
        *,
        interval: float = 2.0,
        longest_pause: float = 60.0,
        patience: float = 15.0,
    ) -> None:
        """Deliver every ``interval`` s, after failures ever more rarely up to ``longest_pause``.

        ``close`` waits at most ``patience`` seconds for the rest.
        """
        self._delivery = delivery
        self._interval = interval
        self._longest_pause = longest_pause
        self._patience = patience
        self._closing = threading.Event()
        self._reached = True
        self._delivering = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="mlflow-spool", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @contextmanager
    def paused(self) -> Iterator[Delivery]:
        """Hold back deliveries while the file is changed; waits for the one under way."""
        with self._delivering:
            yield self._delivery

    def close(self) -> None:
        """Wait a bounded time for the last delivery, which says how the run ended."""
        self._closing.set()
        self._thread.join(self._patience)
        if self._thread.is_alive() or not self._reached or self._delivery.set_aside:
            logger.warning(
                "MLflow has not received all of this run; `convbert track sync` delivers the rest"
            )

    def _work(self) -> None:
        pause = 0.0
        while not self._closing.wait(pause):
            delivered = self._attempt()
            pause = self._interval if delivered else min(2 * pause + 1, self._longest_pause)
        self._attempt(last=True)

    def _attempt(self, *, last: bool = False) -> bool:
        """Deliver once; report the first failure of a series and its end."""
        try:
            with self._delivering:
                self._delivery.deliver()
                if last:
                    self._delivery.finish()
        except Exception as error:
            if self._reached:
                uri = self._delivery.run.state.tracking_uri
                logger.warning("MLflow at %s: %s; training goes on, will try again", uri, error)
            self._reached = False
            return False
        if not self._reached:
            logger.warning("MLflow is reached again; all records are delivered")
        self._reached = True
        return True
