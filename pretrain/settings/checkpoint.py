"""When checkpoints are written, which are kept, and where they are copied to."""

from typing import Literal

from pydantic import Field

from convbert.models.schema import StrictModel


class CheckpointConfig(StrictModel):
    """When checkpoints are written and which are kept."""

    every: int = Field(1000, gt=0, description="updates between checkpoints")
    keep_last: int = Field(2, gt=0, description="newest checkpoints that are kept", examples=[5])
    keep_every: int | None = Field(
        None,
        gt=0,
        description="updates between checkpoints that are kept for good",
        examples=[50_000],
    )
    keep_best: int = Field(
        0,
        ge=0,
        description="number of checkpoints kept for their value of best_metric",
        examples=[3],
    )
    best_metric: str = Field(
        "loss/total",
        description="metric of training that keep_best compares: its mean over the updates since "
        "the checkpoint before",
        examples=["loss/mlm"],
    )
    best_mode: Literal["min", "max"] = Field(
        "min", description="whether the smallest or the largest value of best_metric is the best"
    )
    on_failure: Literal["stop", "warn"] = Field(
        "stop", description="when a checkpoint cannot be written; the last one always stops"
    )
    upload: str | None = Field(
        None,
        description="fsspec URL (s3://bucket, file:///mnt); URL/RUN_NAME gets a copy of each",
        examples=["s3://bucket/runs"],
    )
    upload_patience: float = Field(
        600.0,
        ge=0,
        description="seconds to wait at the end for uploads, at most half of guards.hang_seconds; "
        "the next start goes on",
    )
