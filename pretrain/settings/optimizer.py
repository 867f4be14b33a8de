"""The optimizer and the shape of its learning rate."""

from typing import Literal, Self

from pydantic import Field, model_validator

from convbert.models.schema import StrictModel

ScheduleName = Literal["electra", "linear", "cosine", "wsd", "constant"]


class MuonConfig(StrictModel):
    """How Muon updates the hidden matrices; AdamW's settings are for all other parameters."""

    learning_rate: float = Field(
        0.02, gt=0, description="peak for hidden matrices; follows the same schedule"
    )
    momentum: float = Field(0.95, ge=0, lt=1)
    iterations: int = Field(5, ge=1, le=20, description="Newton-Schulz iterations")


class OptimizerConfig(StrictModel):
    """AdamW as in ELECTRA (no bias correction, epsilon outside the root), LAMB, or Muon."""

    name: Literal["adamw", "lamb", "muon"] = "adamw"
    learning_rate: float = Field(3e-4, gt=0, description="peak")
    muon: MuonConfig = MuonConfig()
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(1e-6, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    bias_correction: bool = False
    clip: float = Field(1.0, gt=0, description="global gradient norm")

    @model_validator(mode="after")
    def _refuse_what_is_not_used(self) -> Self:
        if self.name != "muon" and self.muon != MuonConfig():
            raise ValueError(f"muon is set, but name is '{self.name}': set name to muon, too")
        return self


class ScheduleConfig(StrictModel):
    """Shape of the learning rate over a run."""

    name: ScheduleName = "electra"
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
