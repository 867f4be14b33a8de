"""Which updates of a run are traced."""

from pydantic import Field

from convbert.models.schema import StrictModel


class ProfileConfig(StrictModel):
    """Which updates are traced."""

    start: int = Field(
        ge=0, description="number of the first traced update, from 0", examples=[100]
    )
    steps: int = Field(3, gt=0, description="traced updates")
