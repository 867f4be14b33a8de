"""Where a run's metrics are shown."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from convbert.models.schema import StrictModel


def _yaml_off(value: Any) -> Any:
    """YAML reads a bare ``off`` as false."""
    return "off" if value is False else value


class TrackingConfig(StrictModel):
    """MLflow; metrics.jsonl in the run directory is always written first."""

    uri: Annotated[str | None, BeforeValidator(_yaml_off)] = Field(
        None, description="MLflow server or sqlite:///file; 'off' for none; default mlflow.db"
    )
    experiment: str | None = Field(
        None,
        min_length=1,
        description="of MLflow; default MLFLOW_EXPERIMENT_NAME, else convbert-pretraining",
    )
    log_every: int = Field(10, gt=0, description="updates per line on the terminal")
    system_seconds: float | None = Field(
        30.0, ge=1, description="how often rank 0's machine is looked at; null for never"
    )
    page_seconds: float | None = Field(
        30.0, ge=1, description="how often process 0 writes report/run.html; null for never"
    )
