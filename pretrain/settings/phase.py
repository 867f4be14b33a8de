"""What changes during a run."""

from pydantic import Field

from convbert.data_pipeline.shards.sources import Source
from convbert.models.schema import StrictModel
from convbert.pretrain.settings.data import DataConfig
from convbert.pretrain.settings.optimizer import ScheduleConfig
from convbert.pretrain.settings.places import Change


class PhaseConfig(StrictModel):
    """What changes from an update on; left out, a setting stays that of the run."""

    start: int = Field(ge=0, description="number of the first update of the phase")
    manifest: str | None = Field(None, description="path or URL of its shards, perhaps longer ones")
    sources: list[Source] = Field(default_factory=list, description="several, with weights")
    global_batch: int | None = Field(None, gt=0, le=10**9)
    micro_batch: int | None = Field(None, gt=0, description="default: all at once")
    learning_rate: float | None = Field(None, gt=0, description="peak")
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
