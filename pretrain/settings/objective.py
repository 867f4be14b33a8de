"""Settings of the pretraining objective, importable without PyTorch."""

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from convbert.models.schema import StrictModel


class MovingConfig(StrictModel):
    """How a setting moves over a run, from its own value at the first update."""

    name: Literal["linear"] = Field("linear", description="how the value moves: in a straight line")
    final: float = Field(
        gt=0,
        description="share or factor at the end of the updates, and after it",
        examples=[0.15],
    )
    total_steps: int | None = Field(
        None, gt=0, description="updates it spans; default: all of the run", examples=[500_000]
    )


class MaskingConfig(StrictModel):
    """What is masked, and how the discriminator's input is sampled."""

    mask_fraction: float = Field(
        0.15, gt=0, lt=1, description="share of real tokens selected", examples=[0.3]
    )
    mask_token_fraction: float = Field(
        0.85, ge=0, le=1, description="share of selected positions shown as [MASK]"
    )
    temperature: float = Field(
        1.0,
        gt=0,
        description="factor that divides the generator's logits when tokens are sampled; below 1 "
        "samples are likelier tokens",
        examples=[0.7],
    )
    schedule: MovingConfig | None = Field(
        None, description="of mask_fraction over the run, e.g. {final: 0.15}"
    )
    temperature_schedule: MovingConfig | None = Field(
        None, description="of temperature over the run, e.g. {final: 0.5}"
    )

    @model_validator(mode="after")
    def _refuse_everything(self) -> Self:
        if self.schedule and self.schedule.final >= 1:
            raise ValueError(
                f"schedule.final={self.schedule.final} is no share of the tokens: use one below 1"
            )
        return self

    def spanning(self, steps: int) -> "MaskingConfig":
        """Return the same with schedules that span ``steps`` updates, unless they say how many."""
        moving = {
            name: schedule.model_copy(update={"total_steps": schedule.total_steps or steps})
            for name in ("schedule", "temperature_schedule")
            if (schedule := getattr(self, name)) is not None
        }
        return self.model_copy(update=moving)

    def slots(self, length: int) -> int:
        """Return the slots that a row of ``length`` tokens has in every update of a run.

        ELECTRA's ``int((p + 0.005) * length)``, 19 at (0.15, 128). Of a fraction that moves, enough
        for the largest: shapes stay as they are, and so do compiled networks.
        """
        if self.schedule is None:
            return max(1, int((self.mask_fraction + 0.005) * length))
        return math.ceil(max(self.mask_fraction, self.schedule.final) * length)


class ObjectiveConfig(StrictModel):
    """Weights of the two losses and the masking that feeds them."""

    masking: MaskingConfig = MaskingConfig()
    generator_weight: float = Field(
        1.0, ge=0, description="factor of the generator's loss in the sum"
    )
    discriminator_weight: float = Field(
        50.0,
        ge=0,
        description="factor of the discriminator's loss in the sum (lambda of ELECTRA, eq. 1)",
        examples=[20],
    )
    generator_warmup: int = Field(
        0,
        ge=0,
        description="updates at the start in which only the generator learns, for a fresh one "
        "beside an imported discriminator",
        examples=[1000],
    )
