"""Where a run's training sequences come from."""

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from convbert.data_pipeline.shards.damage import OnDamage
from convbert.data_pipeline.shards.remote import is_url
from convbert.data_pipeline.shards.sources import CacheSettings, Source
from convbert.models.schema import StrictModel


class DataConfig(StrictModel):
    """Where the training sequences come from: one manifest, or several sources with weights."""

    manifest: str | None = Field(
        None, description="path or URL of the only source; default shards/manifest.json"
    )
    sources: list[Source] = Field(
        default_factory=list, description="several, e.g. [{manifest: web, weight: 3}, ...]"
    )
    tokenizer: Path = Field(Path("tokenizer"), description="checked against the shards, exported")
    on_damage: OnDamage = Field(
        "stop", description="skip: replace damaged blocks, recorded in the run's damage/"
    )
    cache: Path | None = Field(
        None, description="directory on a node's disk for shards at a URL; default in $TMPDIR"
    )
    cache_gigabytes: float = Field(20.0, gt=0, description="limit of that cache on each node")

    @model_validator(mode="before")
    @classmethod
    def _one_way(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        if content.get("manifest") and content.get("sources"):
            raise ValueError(
                "both manifest and sources are given; set data.manifest=null or drop the sources"
            )
        if content.get("sources"):
            return content
        return {**content, "manifest": content.get("manifest") or "shards/manifest.json"}

    @property
    def blend(self) -> list[Source]:
        """All sources, also if there is only one."""
        return self.sources or [Source(manifest=str(self.manifest))]

    @property
    def cache_settings(self) -> CacheSettings:
        """Where and how much the loader caches."""
        return CacheSettings(self.cache, self.cache_gigabytes)

    def absolute(self) -> "DataConfig":
        """Return the same with absolute paths; addresses stay."""
        moved = [
            s.model_copy(update={"manifest": absolute_place(s.manifest)}) for s in self.sources
        ]
        return self.model_copy(
            update={
                "manifest": absolute_place(self.manifest) if self.manifest else None,
                "sources": moved,
                "tokenizer": self.tokenizer.resolve(),
                "cache": self.cache.resolve() if self.cache else None,
            }
        )


def absolute_place(place: str) -> str:
    """Return a path as an absolute one; an address stays as it is."""
    return place if is_url(place) else str(Path(place).resolve())
