"""The measurements of one node, and the files into which the nodes write them."""

import os
from pathlib import Path

from pydantic import Field, ValidationError

from convbert.data_pipeline.atomic import atomic_write
from convbert.models.schema import StrictModel


class Gpu(StrictModel):
    """One GPU as nvidia-smi describes it."""

    name: str
    driver: str
    celsius: float
    uncorrected_errors: int = Field(description="ECC errors since the last reset")


class NodeReport(StrictModel):
    """Measurements of one node; None where there was nothing to measure."""

    node: str
    wanted_gpus: int
    gpus: list[Gpu] = Field(default_factory=list)
    versions: dict[str, str] = Field(default_factory=dict)
    shared_gib: dict[str, float] = Field({}, description="free in the run directory")
    disk_gib: dict[str, float] = Field({}, description="free on disks of the node's own")
    shm_gib: float
    shared_problem: str | None = None
    network_problem: str | None = None
    tflops: float | None = Field(None, description="of the slowest process")
    clock: float | None = Field(None, description="Unix seconds right after a barrier")
    allreduce_gbps: float | None = Field(
        None, description="bus bandwidth of all processes; None for one"
    )
    link_gbps: float | None = Field(None, description="the better of the links to two neighbours")
    waited: float | None = Field(
        None, description="seconds after which it gave the others up; None where it did not"
    )

    def write(self, folder: Path) -> None:
        """Write ``NODE.json``."""
        with atomic_write(folder / f"{self.node}.json") as file:
            file.write(self.model_dump_json(indent=1).encode())


def report_folder(run_dir: Path) -> Path:
    """Return the folder of this attempt's reports."""
    attempt = [os.environ.get(f"SLURM_{n}") or "0" for n in ("JOB_ID", "RESTART_COUNT")]
    return run_dir / "slurm" / "preflight" / "-".join(attempt)


def read_reports(folder: Path) -> list[NodeReport]:
    """Read the reports of all nodes; a damaged one counts as missing."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(NodeReport.model_validate_json(path.read_text()))
        except ValidationError:
            continue
    return found
