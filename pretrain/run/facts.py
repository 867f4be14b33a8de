"""What is known of a run only where it trains: its size, its data and the machine.

Process 0 writes ``facts.json`` into the run directory at every start, for pages and people.
"""

import os
import platform
import time
from pathlib import Path
from typing import Any

from pydantic import Field

from convbert.data_pipeline.atomic import atomic_write
from convbert.models.schema import StrictModel, read_record
from convbert.pretrain.run.timeline import Timeline

FILE_NAME = "facts.json"


class Shards(StrictModel):
    """A set of shards that a run reads."""

    name: str
    digest: str
    tokens: int = Field(description="that are not padding")
    sequences: int
    seq_len: int


class Facts(StrictModel):
    """Contents of ``facts.json``, as of the newest start."""

    started: float = Field(description="Unix seconds")
    parameters: int = Field(description="of the network that is kept: encoder and embeddings")
    all_parameters: int = Field(description="of all networks, each shared tensor once")
    data: list[Shards]
    processes: int
    hardware: str = Field(description="of one process: a GPU's name, or the processor's kind")
    precision: str
    compile: bool
    deepspeed: str
    code: str
    host: str
    job: str | None = Field(description="SLURM's number of the job")
    nodes: str | None = Field(description="of the job, as SLURM writes them")

    def write(self, run_dir: Path) -> None:
        """Write them into a run directory."""
        with atomic_write(run_dir / FILE_NAME) as file:
            file.write(self.model_dump_json(indent=1).encode() + b"\n")


def read_facts(run_dir: Path) -> Facts | None:
    """Return the facts of a run, None for one of an earlier version or that never started."""
    path = run_dir / FILE_NAME
    if not path.is_file():
        return None
    remedy = "remove it, the next start of the run writes it again"
    return read_record(Facts, path, what="the facts of a run", remedy=remedy)


def shards_of(timeline: Timeline) -> list[Shards]:
    """Describe the shards of all phases, each set once."""
    found = {
        manifest.digest: Shards(
            name=Path(source.manifest.removesuffix("/manifest.json")).name,
            digest=manifest.digest,
            tokens=manifest.num_tokens,
            sequences=manifest.num_sequences,
            seq_len=manifest.seq_len,
        )
        for corpus in timeline.corpora
        for source, manifest in zip(corpus.sources, corpus.manifests, strict=True)
    }
    return list(found.values())


def place() -> dict[str, Any]:
    """Return when and where this process runs: the fields of ``Facts`` that it knows alone."""
    return {
        "started": round(time.time(), 3),
        "host": platform.node(),
        "job": os.environ.get("SLURM_JOB_ID"),
        "nodes": os.environ.get("SLURM_JOB_NODELIST"),
    }
