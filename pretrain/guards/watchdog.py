"""End a run that makes no progress, and say which process was late.

Every process has a thread that writes a heartbeat file to ``RUN/heartbeats`` and looks at the age
of its own training thread's last sign of life. When that is too old, each process dumps the stacks
of its threads to ``RUN/hang`` and compares the heartbeats: the process that is least far is the one
the others wait for. Files, because the process that would have to answer may be the one that hangs.
"""

import faulthandler
import json
import os
import platform
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, get_args

from convbert.pretrain.run.exit_codes import HUNG

Doing = Literal["data", "update", "report", "checkpoint", "held-out text"]
"""What a training thread does within a step, in this order."""

PHASES: tuple[Doing, ...] = get_args(Doing)


class Watchdog:
    """Context in which missing heartbeats end the process with ``HUNG``; None never does."""

    def __init__(self, run: Path, rank: int, world: int, seconds: float | None) -> None:
        self.rank = rank
        self.world = world
        self.seconds = seconds
        self._beats = run / "heartbeats"
        self._hang = run / "hang"
        self._last: tuple[float, int, Doing] = (time.monotonic(), 0, PHASES[0])
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def beat(self, step: int, phase: Doing) -> None:
        """Say that the training thread begins ``phase`` of update ``step``."""
        self._last = (time.monotonic(), step, phase)

    def __enter__(self) -> "Watchdog":
        if self.seconds is not None:
            self._beats.mkdir(exist_ok=True)
            self.beat(*self._last[1:])
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.seconds is not None:
            self._done.set()
            self._thread.join()
            faulthandler.cancel_dump_traceback_later()
            self._file(self.rank).unlink(missing_ok=True)

    def _file(self, rank: int) -> Path:
        return self._beats / f"rank-{rank:05d}.json"

    def _watch(self) -> None:
        assert self.seconds is not None
        interval = min(self.seconds / 8, 10.0)
        while not self._done.wait(interval):
            age = time.monotonic() - self._last[0]
            self._write()
            if age > self.seconds:
                try:
                    self._give_up(age)
                finally:  # even where the verdict cannot be written, on a full disk
                    os._exit(HUNG)
            # Should a library hold the interpreter, this thread stands still; that one does not.
            faulthandler.dump_traceback_later(2 * self.seconds, exit=True)

    def _write(self) -> None:
        moment, step, phase = self._last
        beat = {
            "step": step,
            "phase": phase,
            "since": time.time() - (time.monotonic() - moment),
            "written": time.time(),
            "host": platform.node(),
            "pid": os.getpid(),
        }
        temporary = self._file(self.rank).with_suffix(".tmp")
        try:
            temporary.write_text(json.dumps(beat))
            temporary.replace(self._file(self.rank))
        except OSError:  # a full disk must not end a run that makes progress
            return

    def _give_up(self, age: float) -> None:
        assert self.seconds is not None
        self._hang.mkdir(exist_ok=True)
        with open(self._hang / f"rank-{self.rank:05d}.txt", "w") as file:
            print(f"no progress for {age:.0f} s, {self._last[1:]}", file=file, flush=True)
            faulthandler.dump_traceback(file, all_threads=True)
        time.sleep(min(self.seconds / 2, 30.0))  # the others reach their limit a little later
        self._write()
        print(f"error: [rank {self.rank}] {self._verdict(age)}", file=sys.stderr, flush=True)

    def _verdict(self, age: float) -> str:
        beats = [self._read(rank) for rank in range(self.world)]
        text = f"no progress for {age:.0f} s; "
        assert self.seconds is not None
        silent = [
            r for r, b in enumerate(beats) if b is None or time.time() - b["written"] > self.seconds
        ]
        places = {r: (b["step"], PHASES.index(b["phase"])) for r, b in enumerate(beats) if b}
        if silent:
            late = silent
            text += f"{_ranks(late, beats)} gives no sign of life"
        else:
            first = min(places.values())
            late = [r for r, place in places.items() if place == first]
            text += (
                f"{_ranks(late, beats)} is late, in phase '{PHASES[first[1]]}' of step {first[0]}"
            )
        return f"{text}; stacks are in {self._hang}; start the run again to continue"

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
