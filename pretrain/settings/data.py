"""Where a run's training sequences come from."""

import os
import socket
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from convbert.data_pipeline.shards.damage import OnDamage
from convbert.data_pipeline.shards.remote import is_url
from convbert.data_pipeline.shards.sources import CacheSettings, Source
from convbert.models.errors import UserError
from convbert.models.schema import StrictModel
from convbert.pretrain.settings.places import Change, absolute_place


class DataConfig(StrictModel):
    """Where the training sequences come from: one manifest, or several sources with weights."""

    manifest: str | None = Field(
        None,
        description="path or URL of the only source; default shards/manifest.json",
        examples=["corpus/shards-128/manifest.json"],
    )
    sources: list[Source] = Field(
        default_factory=list,
        description="several shards with weights, instead of manifest",
        examples=[[{"manifest": "web", "weight": 3}, {"manifest": "wiki"}]],
    )
    tokenizer: Path = Field(
        Path("tokenizer"),
        description="directory of the tokenizer; checked against the shards, exported with the "
        "model",
        examples=["corpus/tokenizer"],
    )
    on_damage: OnDamage = Field(
        "stop", description="skip: replace damaged blocks, recorded in the run's damage/"
    )
    cache: Path | None = Field(
        None,
        description="directory on a node's disk for shards at a URL; default in $TMPDIR",
        examples=["/local/cache"],
    )
    cache_gigabytes: float = Field(
        20.0, gt=0, description="GB that the cache takes at most on each node", examples=[200]
    )
    stage: Path | None = Field(
        None,
        description="directory on a node's disk to copy shards to, e.g. $SLURM_TMPDIR",
        examples=["$SLURM_TMPDIR"],
    )

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

    @model_validator(mode="after")
    def _staged(self) -> Self:
        far = next((s.manifest for s in self.blend if is_url(s.manifest)), None)
        if self.stage and far:
            raise ValueError(
                f"stage: {far} is at an address, for which data.cache is; leave it out"
            )
        return self

    @property
    def blend(self) -> list[Source]:
        """All sources, also if there is only one."""
        return self.sources or [Source(manifest=str(self.manifest))]

    @property
    def cache_settings(self) -> CacheSettings:
        """Where and how much the loader caches."""
        folder = self.cache and on_this_node(self.cache, "data.cache")
        return CacheSettings(folder, self.cache_gigabytes)

    @property
    def stage_here(self) -> Path | None:
        """Where shards are copied to, with this node's variables."""
        return self.stage and on_this_node(self.stage, "data.stage")

    def placed(self, change: Change) -> "DataConfig":
        """Return the same with the places of shards and tokenizer changed."""
        return self.model_copy(
            update={
                "manifest": self.manifest and change(self.manifest),
                "sources": [source.placed(change) for source in self.sources],
                "tokenizer": Path(change(str(self.tokenizer))),
            }
        )

    def absolute(self) -> "DataConfig":
        """Return the same with absolute paths; addresses stay."""
        node = {"cache": absolute_unless_variable(self.cache)}
        node["stage"] = absolute_unless_variable(self.stage)
        return self.placed(absolute_place).model_copy(update=node)


def absolute_unless_variable(path: Path | None) -> Path | None:
    """Return an absolute path; one with variables stays as it is until a node expands it."""
    return path if path is None or "$" in str(path) else path.resolve()


def on_this_node(path: Path, key: str) -> Path:
    """Return a path with this node's variables; ``UserError`` names one that it lacks."""
    expanded = os.path.expandvars(path)
    if "$" in expanded:
        raise UserError(
            f"{key}={path}: {socket.gethostname()} does not set every variable in it; set them in "
            "the site's environment, or choose a path"
        )
    return Path(expanded).resolve()
