"""Where a run's metrics are shown."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from convbert.data_pipeline.shards.remote import is_url
from convbert.models.schema import StrictModel
from convbert.pretrain.settings.places import Change

SQLITE = "sqlite:///"


def _yaml_off(value: Any) -> Any:
    """YAML reads a bare ``off`` as false."""
    return "off" if value is False else value


class TrackingConfig(StrictModel):
    """MLflow; metrics.jsonl in the run directory is always written first."""

    uri: Annotated[str | None, BeforeValidator(_yaml_off)] = Field(
        None,
        description="MLflow server or sqlite:///file; 'off' for none; default mlflow.db",
        examples=["http://mlflow.example.org:5000"],
    )
    experiment: str | None = Field(
        None,
        min_length=1,
        description="name of the experiment in MLflow; default MLFLOW_EXPERIMENT_NAME, else "
        "convbert-pretraining",
        examples=["german"],
    )
    log_every: int = Field(10, gt=0, description="updates per line on the terminal")
    system_seconds: float | None = Field(
        30.0,
        ge=1,
        description="seconds between looks at rank 0's machine; null for never",
        examples=[10],
    )
    page_seconds: float | None = Field(
        30.0,
        ge=1,
        description="seconds between two pages of the run, report/run.html; null for none",
        examples=[10],
    )

    def placed(self, change: Change) -> "TrackingConfig":
        """Return the same with the place of a SQLite database changed."""
        return self.model_copy(update={"uri": self.uri and placed_store(self.uri, change)})


def placed_store(uri: str, change: Change) -> str:
    """Return the URI of a store with the place of a SQLite database changed; others stay."""
    database = uri.removeprefix(SQLITE)
    return uri if database == uri or is_url(database) else SQLITE + change(database)
