"""What changes during a run."""

from pydantic import Field

from convbert.data_pipeline.shards.sources import Source
from convbert.models.schema import StrictModel
from convbert.pretrain.settings.data import DataConfig
from convbert.pretrain.settings.optimizer import ScheduleConfig
from convbert.pretrain.settings.places import Change


class PhaseConfig(StrictModel):
    """What changes from an update on; left out, a setting stays that of the run."""

    start: int = Field(
        ge=0, description="number of the first update of the phase", examples=[900_000]
    )
    manifest: str | None = Field(
        None,
        description="path or URL of its shards, perhaps longer ones",
        examples=["shards-512/manifest.json"],
    )
    sources: list[Source] = Field(
        default_factory=list,
        description="several shards with weights, instead of manifest",
        examples=[[{"manifest": "web-512", "weight": 3}, {"manifest": "wiki-512"}]],
    )
    global_batch: int | None = Field(
        None, gt=0, le=10**9, description="sequences per update", examples=[64]
    )
    micro_batch: int | None = Field(
        None,
        gt=0,
        description="sequences per process and forward pass; default: all at once",
        examples=[16],
    )
    learning_rate: float | None = Field(
        None, gt=0, description="peak rate per update in the phase", examples=[0.0001]
    )
    schedule: ScheduleConfig | None = Field(
        None, description="of this phase alone; default: the run's schedule goes on"
    )

    def data(self, before: DataConfig) -> DataConfig:
        """Return where its sequences come from: its own shards, or those of the run."""
        if not self.manifest and not self.sources:
            return before
        content = before.model_dump() | {"manifest": self.manifest, "sources": self.sources}
        return DataConfig.model_validate(content)

    def placed(self, change: Change) -> "PhaseConfig":
        """Return the same with the places of its shards changed."""
        manifest = self.manifest and change(self.manifest)
        sources = [source.placed(change) for source in self.sources]
        return self.model_copy(update={"manifest": manifest, "sources": sources})
