"""Decide about every update before it is applied.

The judge sees only sums over the processes, which are equal on all of them, so all reach the same
verdict without communicating.
"""

import math
import statistics
from collections import deque
from dataclasses import dataclass, replace
from typing import Any, Literal

from convbert.pretrain.settings.guards import Action, GuardConfig

EventKind = Literal["nan", "spike", "overflow"]
_SCALE = 1.4826  # makes the median absolute deviation an estimate of the standard deviation
_FLOOR = 1e-3  # smallest spread, as a share of the median: a flat loss is not full of spikes


@dataclass(frozen=True)
class Event:
    """What is wrong with one update, and what is done about it."""

    kind: EventKind
    action: Action
    loss: float
    norm: float
    score: float | None = None
    reason: str = ""

    @property
    def applied(self) -> bool:
        """Return whether the update is applied all the same."""
        return self.action == "record"


class Judge:
    """Verdicts on updates, with the memory they need; that memory belongs in a checkpoint."""

    def __init__(self, config: GuardConfig) -> None:
        self.config = config
        self.losses: deque[float] = deque(maxlen=config.spike_window)
        self.counts: dict[str, int] = {"nan": 0, "spike": 0, "overflow": 0}
        self.left_out = 0
        self.refused = 0  # those left out for another reason than an overflow
        self._phase: int | None = None
        self._consecutive = {"events": 0, "overflows": 0}

    def enter(self, phase: int) -> None:
        """Begin the phase that starts at update ``phase``: losses compare only within one."""
        if phase != self._phase:
            self.losses.clear()
            self._phase = phase

    def look(self, loss: float, norm: float) -> Event | None:
        """Judge an update that is about to be applied; None means that nothing is wrong."""
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return self._count(Event("nan", self.config.on_nan, loss, norm))
        score = self._score(loss)
        if score is not None and score > self.config.spike_threshold:
            return self._count(Event("spike", self.config.on_spike, loss, norm, score))
        self.losses.append(loss)
        self._consecutive = dict.fromkeys(self._consecutive, 0)
        return None

    def overflowed(self, loss: float, *, scaled: bool) -> Event:
        """Judge an update that DeepSpeed left out because its gradient was not finite.

        If the loss was ``scaled`` (fp16), a finite loss means that the scale was too high, which
        is normal: the scale is lowered.
        """
        if scaled and math.isfinite(loss):
            return self._count(Event("overflow", "skip", loss, math.inf))
        return self._count(Event("nan", self.config.on_nan, loss, math.inf))

    def refused_above(self) -> tuple[float, float]:
        """Return median and spread by which a coming loss is judged, for who judges it elsewhere.

        An update is left out if ``(loss - median) / spread`` exceeds ``spike_threshold``, or if
        loss or norm is not finite. The spread is infinite where no finite loss is too high.
        """
        recent = None if self.config.on_spike == "record" else self._recent()
        return recent or (0.0, math.inf)

    def _recent(self) -> tuple[float, float] | None:
        """Return the median of the recent losses and a robust standard deviation, if known."""
        if len(self.losses) < self.config.spike_window // 2:
            return None
        median = statistics.median(self.losses)
        deviation = statistics.median(abs(x - median) for x in self.losses)
        return median, max(_SCALE * deviation, _FLOOR * abs(median), 1e-12)

    def _score(self, loss: float) -> float | None:
        """Return how far ``loss`` lies above the recent median, in robust standard deviations."""
        recent = self._recent()
        return None if recent is None else (loss - recent[0]) / recent[1]

    def _count(self, event: Event) -> Event:
        """Count an event and turn it into a stop where a limit is passed."""
        self.counts[event.kind] += 1
        if event.applied:
            self.losses.append(event.loss)
            return event
        self.left_out += 1
        series = "overflows" if event.kind == "overflow" else "events"
        self._consecutive[series] += 1
        self.refused += event.kind != "overflow"
        limits = {
            "max_events": self.refused,
            "max_consecutive": self._consecutive["events"],
            "max_overflows": self._consecutive["overflows"],
        }
        passed = [name for name, count in limits.items() if count > getattr(self.config, name)]
        reason = f"guards.{passed[0]}={getattr(self.config, passed[0])} is passed" if passed else ""
        action: Action = "stop" if passed else event.action
        return replace(event, action=action, reason=reason)

    def state(self) -> dict[str, Any]:
        """Return the memory as plain data."""
        return {
            "losses": list(self.losses),
            "counts": dict(self.counts),
            "left_out": self.left_out,
            "refused": self.refused,
            "phase": self._phase,
            "consecutive": dict(self._consecutive),
        }

    def load(self, state: dict[str, Any], *, keep_counts: bool = False) -> None:
        """Take the memory of a checkpoint; ``keep_counts``, after a rollback, goes on counting."""
        self.losses = deque(state["losses"], maxlen=self.config.spike_window)
        self._phase = state.get("phase")
        if not keep_counts:
            self.counts = dict(state["counts"])
            self.left_out = int(state["left_out"])
            self.refused = int(state.get("refused", state["counts"]["nan"]))
            self._consecutive = dict(state["consecutive"])
