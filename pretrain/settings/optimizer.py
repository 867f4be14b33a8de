"""The optimizer and the shape of its learning rate."""

from typing import Literal, Self

from pydantic import Field, model_validator

from convbert.models.schema import StrictModel

ScheduleName = Literal["electra", "linear", "cosine", "wsd", "constant"]


class MuonConfig(StrictModel):
    """How Muon updates the hidden matrices; AdamW's settings are for all other parameters."""

    learning_rate: float = Field(
        0.02,
        gt=0,
        description="peak rate of hidden matrices per update; follows the same schedule",
        examples=[0.01],
    )
    momentum: float = Field(
        0.95, ge=0, lt=1, description="decay factor of the momentum per update", examples=[0.9]
    )
    iterations: int = Field(
        5, ge=1, le=20, description="number of Newton-Schulz iterations", examples=[6]
    )


class OptimizerConfig(StrictModel):
    """AdamW as in ELECTRA (no bias correction, epsilon outside the root), LAMB, or Muon."""

    name: Literal["adamw", "lamb", "muon"] = Field(
        "adamw", description="how parameters are updated"
    )
    learning_rate: float = Field(
        3e-4,
        gt=0,
        description="peak rate; with AdamW about the most that a parameter changes per update",
        examples=[0.0002],
    )
    muon: MuonConfig = MuonConfig()
    betas: tuple[float, float] = Field(
        (0.9, 0.999),
        description="decay factors of the first and second moment per update",
        examples=[[0.9, 0.98]],
    )
    eps: float = Field(1e-6, gt=0, description="number added to the root of the second moment")
    weight_decay: float = Field(
        0.01,
        ge=0,
        description="decay factor, times the rate, per update; not for biases and norms",
        examples=[0.1],
    )
    bias_correction: bool = Field(
        False, description="correct the moments for their start at zero, as Adam does"
    )
    clip: float = Field(
        1.0,
        gt=0,
        description="largest norm of the gradient over all parameters; larger ones are scaled down",
        examples=[0.5],
    )

    @model_validator(mode="after")
    def _refuse_what_is_not_used(self) -> Self:
        if self.name != "muon" and self.muon != MuonConfig():
            raise ValueError(f"muon is set, but name is '{self.name}': set name to muon, too")
        return self


class ScheduleConfig(StrictModel):
    """Shape of the learning rate over a run."""

    name: ScheduleName = Field("electra", description="shape of the rate over the run")
    warmup_steps: int = Field(
        10_000, ge=0, description="updates until the warm-up factor is 1", examples=[1000]
    )
    decay_fraction: float = Field(
        0.1, gt=0, le=1, description="wsd only: last part of the run that decays"
    )
    total_steps: int | None = Field(
        None,
        gt=0,
        description="updates it spans; default: all of the run, or of its phase",
        examples=[1_000_000],
    )
    final_ratio: float = Field(
        0.0, ge=0, le=1, description="rate at the end, as a share of the peak", examples=[0.1]
    )
