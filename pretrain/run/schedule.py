"""Learning rates: a pure function of the update.

Steps count updates from 0; the returned value is used by the update of that step. A schedule
therefore needs no state in a checkpoint.
"""

import math
from collections.abc import Callable

from convbert.pretrain.settings.optimizer import ScheduleConfig


def electra(step: int, total: int, warmup: int, peak: float) -> float:
    """ELECTRA's product form: linear decay over all steps times the warm-up factor.

    ``peak * (1 - step/total) * min(1, step/warmup)``: the first update has rate 0 and the true
    maximum is ``peak * (1 - warmup/total)`` (Clark et al. 2020, released code).
    """
    ramp = 1.0 if warmup == 0 else min(1.0, step / warmup)
    return peak * max(0.0, 1.0 - step / total) * ramp


def _decayed(shape: Callable[[float], float]) -> Callable[[ScheduleConfig, int, int], float]:
    """Warm up linearly, then follow ``shape`` (1 at progress 0, 0 at progress 1) to the end."""

    def factor(config: ScheduleConfig, step: int, total: int) -> float:
        if step < config.warmup_steps:
            return (step + 1) / config.warmup_steps
        progress = (step - config.warmup_steps) / max(1, total - config.warmup_steps)
        floor = config.final_ratio
        return floor + (1 - floor) * shape(min(1.0, progress))

    return factor


def decay_start(config: ScheduleConfig, total: int) -> int:
    """Return the first update of the decay of a ``wsd`` schedule that spans ``total`` updates."""
    return total - max(1, round(config.decay_fraction * total))


def _wsd(config: ScheduleConfig, step: int, total: int) -> float:
    """Warm up, stay, and decay as one minus the square root over the last part of the run."""
    start = decay_start(config, total)
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if step < start:
        return 1.0
    progress = min(1.0, (step - start) / (total - start))
    return config.final_ratio + (1 - config.final_ratio) * (1 - math.sqrt(progress))


def _electra(config: ScheduleConfig, step: int, total: int) -> float:
    return electra(step, total, config.warmup_steps, 1.0)


_FACTORS: dict[str, Callable[[ScheduleConfig, int, int], float]] = {
    "electra": _electra,
    "linear": _decayed(lambda x: 1 - x),
    "cosine": _decayed(lambda x: 0.5 * (1 + math.cos(math.pi * x))),
    "constant": _decayed(lambda x: 1.0),
    "wsd": _wsd,
}


def learning_rate(config: ScheduleConfig, step: int, total: int, peak: float) -> float:
    """Return the learning rate of update ``step`` (from 0) in a run of ``total`` updates."""
    return peak * _FACTORS[config.name](config, step, total)
