"""End a run that makes no progress, and name the process that is late.

A thread of every process writes a heartbeat file to ``RUN/heartbeats`` and watches how long ago its
training thread last reported to it. When that is too long ago, each process writes the stacks of
its threads to ``RUN/hang`` and compares the heartbeats: the process that has come least far is the
one the others wait for. Files are used because the process that would have to answer may hang. The
more processes, the more rarely each of them writes, and only some of them compare.

Time in which the process was suspended does not count, nor does a jump of the machine's clock.
"""

import faulthandler
import json
import logging
import math
import os
import platform
import threading
import time
from pathlib import Path
from typing import Any, Literal, get_args

from convbert.pretrain.run.exit_codes import HUNG

Activity = Literal[
    "data", "update", "report", "checkpoint", "held-out text", "minimal pairs", "samples"
]
"""What a training thread does within a step, in this order."""

ACTIVITIES: tuple[Activity, ...] = get_args(Activity)

_BEATS_PER_SECOND = 50
"""Heartbeats of all processes together, for which the file system's metadata server has to open."""
_BEAT_BYTES = 512
"""Length of a heartbeat's file, so that a shorter one leaves nothing of a longer one."""
_SPOKESMEN = 8
"""Processes that compare the heartbeats of all, spread over the nodes: any of them may be dead."""

logger = logging.getLogger(__name__)


class AwakeClock:
    """Seconds in which this process could run, as far as one of its threads sees them.

    That thread calls ``tick`` often. Where two ticks lie further apart than ``longest`` seconds,
    the process was suspended in between (SIGSTOP, ``scontrol suspend``), and so were the others of
    its machine; no more than ``longest`` of that time counts.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._ticked = (0.0, time.monotonic())  # one value, so that threads read it whole

    def __call__(self) -> float:
        """Return the time."""
        seconds, at = self._ticked
        return seconds + min(time.monotonic() - at, self._longest)

    def tick(self) -> None:
        """Say that the process runs."""
        self._ticked = (self(), time.monotonic())


class Watchdog:
    """Context that ends the process with ``HUNG`` after ``seconds`` without progress.

    With None it does nothing.
    """

    def __init__(self, run: Path, rank: int, world: int, seconds: float | None) -> None:
        self.rank = rank
        self.world = world
        self._enabled = seconds is not None
        self.seconds = seconds or 0.0
        self._beats = run / "heartbeats"
        self._hang = run / "hang"
        self._interval = min(self.seconds / 8, 10.0)
        self.beat_every = min(self.seconds / 8, max(self._interval, world / _BEATS_PER_SECOND))
        self._written = -math.inf
        self._awake = AwakeClock(2 * self._interval)
        self._last: tuple[float, int, Activity] = (self._awake(), 0, ACTIVITIES[0])
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def beat(self, step: int, activity: Activity) -> None:
        """Report that the training thread begins ``activity`` of update ``step``."""
        self._last = (self._awake(), step, activity)

    def __enter__(self) -> "Watchdog":
        if self._enabled:
            self._beats.mkdir(exist_ok=True)
            self.beat(*self._last[1:])
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._enabled:
            self._done.set()
            self._thread.join()
            faulthandler.cancel_dump_traceback_later()
            self._file(self.rank).unlink(missing_ok=True)

    def _file(self, rank: int) -> Path:
        return self._beats / f"rank-{rank:05d}.json"

    def _watch(self) -> None:
        while not self._done.wait(self._interval):
            self._awake.tick()
            age = self._awake() - self._last[0]
            if time.monotonic() - self._written >= self.beat_every - self._interval / 2:
                self.write()
            if age > self.seconds:
                try:
                    self.give_up(age)
                finally:  # even if the verdict cannot be written, on a full disk
                    os._exit(HUNG)
            # If a library holds the interpreter lock, this thread stands still, but not that one.
            faulthandler.dump_traceback_later(2 * self.seconds, exit=True)

    def write(self) -> None:
        """Write this process's heartbeat."""
        moment, step, activity = self._last
        beat = {
            "step": step,
            "activity": activity,
            "since": time.time() - (self._awake() - moment),
            "written": time.time(),
            "host": platform.node(),
            "pid": os.getpid(),
        }
        self._written = time.monotonic()
        # In place: a new file and its renaming would cost the metadata server three operations.
        content = json.dumps(beat).encode().ljust(_BEAT_BYTES)
        try:
            descriptor = os.open(self._file(self.rank), os.O_WRONLY | os.O_CREAT, 0o666)
            try:
                os.pwrite(descriptor, content, 0)
            finally:
                os.close(descriptor)
        except OSError:  # a full disk must not end a run that makes progress
            return

    def give_up(self, age: float) -> None:
        """Write down the stacks of this process, which stands still for ``age`` seconds."""
        self._hang.mkdir(exist_ok=True)
        with open(self._hang / f"rank-{self.rank:05d}.txt", "w") as file:
            file.write(f"no progress for {age:.0f} s, {self._last[1:]}\n")
            file.flush()
            faulthandler.dump_traceback(file, all_threads=True)
        time.sleep(min(self.seconds / 2, 30.0))  # the others reach their limit a little later
        self.write()
        if self.rank % max(1, self.world // _SPOKESMEN) == 0:  # each reads what all have written
            logger.error(
                "no progress for %.0f s; %s; stacks are in %s; start the run again to continue",
                age,
                self._verdict(),
                self._hang,
            )

    def _verdict(self) -> str:
        """Name the processes without a recent heartbeat, or else those that have come least far."""
        beats = [self._read(rank) for rank in range(self.world)]
        oldest = time.time() - self.seconds
        silent = [rank for rank, b in enumerate(beats) if b is None or b["written"] < oldest]
        if silent:
            return f"{_ranks(silent, beats)} gives no sign of life"
        places = [(b["step"], ACTIVITIES.index(b["activity"])) for b in beats if b]
        step, activity = min(places)
        late = [rank for rank, place in enumerate(places) if place == (step, activity)]
        return f"{_ranks(late, beats)} is late, at '{ACTIVITIES[activity]}' of step {step}"

    def _read(self, rank: int) -> dict[str, Any] | None:
        try:
            return json.loads(self._file(rank).read_text())
        except (OSError, ValueError):
            return None


def _ranks(ranks: list[int], beats: list[dict[str, Any] | None]) -> str:
    named = (
        f"{rank} ({beat['host']}, pid {beat['pid']})" if (beat := beats[rank]) else str(rank)
        for rank in ranks
    )
    return f"rank {', '.join(named)}"
