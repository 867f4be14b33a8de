"""The page of a run that trains, written again and again by a thread of process 0.

The thread only reads files and writes one, so it changes nothing of the training. After each page
it sleeps so long that it takes at most ``SHARE`` of a processor core. The log of a run that goes on
is read once, at ``READING_SHARE``.
"""

import logging
import threading
import time
from pathlib import Path
from typing import Literal

from convbert.data_pipeline.atomic import atomic_write
from convbert.pretrain.report.page import Live, render
from convbert.pretrain.report.runs import ReportRun, RunReader
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.show.kept_looks import kept_series
from convbert.pretrain.show.records import Series

SHARE = 0.01
READING_SHARE = 0.04
PATIENCE_SECONDS = 10.0
"""How long the end of a run waits for its last page, on a disk that hangs."""
_LINES = 2000  # read at once

State = Literal["training", "finished", "stopped", "failed"]
logger = logging.getLogger(__name__)


def page_of(run: RunDirectory) -> Path:
    """Return where the page of a run is."""
    return run.report / "run.html"


def samples_of(run: ReportRun) -> Series | None:
    """Return what the checkpoints filled in, without those that are trained again."""
    return kept_series(run.path, None if run.newest is None else run.newest.step)


class PageWriter:
    """Keeps the page of a run up to date until it is closed; its failures are warnings."""

    def __init__(self, run: RunDirectory, seconds: float) -> None:
        """Write the page now and every ``seconds``, or less often where that costs too much."""
        self._run = run
        self._seconds = seconds
        self._state: State = "training"
        self._closing = threading.Event()
        self._problem = ""
        self._thread = threading.Thread(target=self._work, name="run-page", daemon=True)
        self._thread.start()

    def close(self, state: State) -> None:
        """Write the last page, which says how the run ended; waits a bounded time for it."""
        self._state = state
        self._closing.set()
        self._thread.join(PATIENCE_SECONDS)

    def _work(self) -> None:
        reader = None
        while True:
            closing = self._closing.is_set()
            began = time.thread_time()
            try:
                reader = reader or RunReader(self._run.path)
                self._catch_up(reader)
                began = time.thread_time()
                self._write(reader)
                self._problem = ""
            except Exception as error:  # a full disk, a damaged line, a directory that is gone
                self._warn(error)
            if closing:
                return
            spent = time.thread_time() - began
            self._closing.wait(max(self._seconds, spent / SHARE))

    def _catch_up(self, reader: RunReader) -> None:
        """Read what is new in the log, a piece at a time: that of a run that goes on is long."""
        began = time.thread_time()
        while not reader.log.read(_LINES):
            spent = time.thread_time() - began
            self._closing.wait(spent / READING_SHARE)
            began = time.thread_time()

    def _write(self, reader: RunReader) -> None:
        run = reader.read()
        refresh = self._seconds if self._state == "training" else None
        page = render([run], live=Live(self._state, refresh), samples=samples_of(run))
        path = page_of(self._run)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(page.encode())

    def _warn(self, error: Exception) -> None:
        """Say once what is wrong."""
        problem = " ".join(str(error).split()) or type(error).__name__
        if problem != self._problem:
            logger.warning("%s: not written (%s); training goes on", page_of(self._run), problem)
        self._problem = problem
