"""The background thread that delivers a run's records to MLflow while it trains."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from convbert.models.errors import UserError
from convbert.pretrain.run.tracking_links import links
from convbert.pretrain.run.tracking_uri import SQLITE, without_login
from convbert.pretrain.tracking.mlflow_delivery import Delivery
from convbert.pretrain.tracking.mlflow_faults import in_short
from convbert.pretrain.tracking.tracked_run import TrackedRun

_INTERVAL_SECONDS = 2.0
_LONGEST_PAUSE_SECONDS = 60.0
_PATIENCE_SECONDS = 15.0
_SQLITE_PATIENCE_SECONDS = 60.0
"""Longer, because MLflow cannot repair a local database if its creation is cut off."""

logger = logging.getLogger(__name__)


class Spool:
    """The thread that delivers while the run goes on; its failures never reach training.

    It delivers every 2 seconds, after failures less and less often, down to once a minute. When
    MLflow has the run, and at its end, the log says where it is shown.
    """

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._closing = threading.Event()
        self._reached = True
        self._refused: str | None = None
        self._shown = False
        self._delivering = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="mlflow-spool", daemon=True)
        self._thread.start()

    @contextmanager
    def paused(self) -> Iterator[Delivery]:
        """Deliver nothing while the file is changed; waits for the delivery under way."""
        with self._delivering:
            yield self._delivery

    def close(self, status: str) -> TrackedRun:
        """End the run, wait a bounded time for the last delivery and return the run."""
        run = self._delivery.run
        run.end(status)
        self._closing.set()
        local = run.state.tracking_uri.startswith(SQLITE)
        self._thread.join(_SQLITE_PATIENCE_SECONDS if local else _PATIENCE_SECONDS)
        if self._thread.is_alive() or not self._reached or self._delivery.set_aside:
            logger.warning(
                "MLflow has not received all of this run; `convbert track sync` delivers the rest"
            )
        self._say_where()
        return run

    def _say_where(self) -> None:
        state = self._delivery.run.state
        for line in links(state.tracking_uri, state.experiment_id) if state.experiment_id else ():
            logger.info("%s", line)

    def _work(self) -> None:
        pause = 0.0
        while not self._closing.wait(pause):
            delivered = self._attempt()
            pause = _INTERVAL_SECONDS if delivered else min(2 * pause + 1, _LONGEST_PAUSE_SECONDS)
        self._attempt(last=True)

    def _attempt(self, *, last: bool = False) -> bool:
        """Deliver once; log the first failure of a series and its end."""
        try:
            with self._delivering:
                self._delivery.deliver()
                if last:
                    self._delivery.finish()
        except UserError as error:  # trying again does not help before somebody acts
            if self._refused != str(error):
                logger.warning("%s; training goes on, then `convbert track sync`", error)
            self._refused = str(error)
            self._reached = False
            return False
        except Exception as error:
            if self._reached:
                uri = without_login(self._delivery.run.state.tracking_uri)
                why = in_short(error)
                logger.warning("MLflow at %s: %s; training goes on, will try again", uri, why)
            self._reached = False
            return False
        if not self._reached:
            logger.warning("MLflow is reached again; all records are delivered")
        self._reached, self._refused = True, None
        if not self._shown and not last:
            self._shown = True
            self._say_where()
        return True
