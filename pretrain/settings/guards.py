"""When a run protects itself, and how."""

from typing import Literal

from pydantic import Field

from convbert.models.schema import StrictModel

Action = Literal["record", "skip", "rollback", "stop"]


class GuardConfig(StrictModel):
    """Policies against bad updates, diverging processes and hangs.

    ``skip`` leaves the update out and goes on with the next batch. ``rollback`` returns to the
    newest checkpoint and trains on without the offending batches; before the first checkpoint it
    is a ``skip``. ``stop`` ends the run with an error. In every case the update is not applied.
    """

    on_nan: Literal["skip", "rollback", "stop"] = Field(
        "skip", description="for a loss or gradient that is NaN or infinite"
    )
    on_spike: Action = Field("record", description="for a loss far above its recent median")
    spike_threshold: float = Field(
        10.0, gt=0, description="robust z-score (median, MAD) above which a loss is a spike"
    )
    spike_window: int = Field(128, ge=8, description="losses that the median is taken over")
    rollback_span: int = Field(
        1, gt=0, description="batches, the offending one last, that a rollback leaves out"
    )
    max_events: int = Field(20, ge=0, description="skips and rollbacks of a run before it stops")
    max_consecutive: int = Field(5, ge=0, description="of them in consecutive updates")
    max_overflows: int = Field(
        40, ge=0, description="consecutive fp16 overflows (the loss scale halves) before it stops"
    )
    compare_every: int | None = Field(
        1000, gt=0, description="updates between comparisons of the processes' parameters"
    )
    hang_seconds: float | None = Field(
        1800.0, gt=0, description="without progress before all stacks are dumped and the run ends"
    )
