"""Settings of the optimizer, and learning rates: a pure function of the update.

Steps count updates from 0; the returned value is used by the update of that step. A schedule
therefore needs no state in a checkpoint.
"""

import math
from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Literal["electra", "linear", "cosine", "wsd", "constant"]


class OptimizerConfig(BaseModel):
    """AdamW as in ELECTRA (no bias correction, epsilon outside the root), or LAMB."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["adamw", "lamb"] = "adamw"
    learning_rate: float = Field(3e-4, gt=0, description="peak")
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(1e-6, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    bias_correction: bool = False
    clip: float = Field(1.0, gt=0, description="global gradient norm")


class ScheduleConfig(BaseModel):
    """Shape of the learning rate over a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = "electra"
    warmup_steps: int = Field(10_000, ge=0, description="updates until the warm-up factor is 1")
    decay_fraction: float = Field(
        0.1, gt=0, le=1, description="wsd only: last part of the run that decays"
    )
    total_steps: int | None = Field(
        None, gt=0, description="updates it spans; default: all of the run, or of its phase"
    )
    final_ratio: float = Field(
        0.0, ge=0, le=1, description="rate at the end, as a share of the peak"
    )


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


def _wsd(config: ScheduleConfig, step: int, total: int) -> float:
    """Warm up, stay, and decay as one minus the square root over the last part of the run."""
    start = total - max(1, round(config.decay_fraction * total))
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
