"""Learning rates, and how tokens are masked and sampled: pure functions of the update.

Steps count updates from 0; the returned value is used by the update of that step. A schedule
therefore needs no state in a checkpoint.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from convbert.pretrain.settings.objective import MaskingConfig, MovingConfig
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


@dataclass(frozen=True)
class Sampling:
    """The share of the tokens that an update masks, and the temperature at which it samples."""

    mask_fraction: float
    temperature: float


def sampling(config: MaskingConfig, step: int, total: int) -> Sampling:
    """Return how update ``step`` (from 0) of a run of ``total`` updates masks and samples.

    A falling share is Ankner et al. 2023 (arXiv 2305.15096), a falling temperature Dong et al. 2023
    (Fast-ELECTRA, arXiv 2310.07347).
    """
    return Sampling(
        _moved(config.mask_fraction, config.schedule, step, total),
        _moved(config.temperature, config.temperature_schedule, step, total),
    )


def final_sampling(config: MaskingConfig) -> Sampling:
    """Return how a run masks and samples when both schedules have ended."""
    mask, temperature = config.schedule, config.temperature_schedule
    return Sampling(
        mask.final if mask else config.mask_fraction,
        temperature.final if temperature else config.temperature,
    )


def _moved(value: float, schedule: MovingConfig | None, step: int, total: int) -> float:
    if schedule is None:
        return value
    progress = min(1.0, step / (schedule.total_steps or total))
    return value + (schedule.final - value) * progress
