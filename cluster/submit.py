"""Turn a prepared run directory into a SLURM job."""

import re
import shlex
import subprocess
import sys
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from pydantic import BaseModel, ConfigDict, Field

from convbert.data_pipeline.atomic import atomic_write
from convbert.models.errors import UserError


class JobOptions(BaseModel):
    """What the job asks SLURM for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    nodes: int = Field(1, gt=0)
    tasks_per_node: int = Field(1, gt=0, description="processes per node: its GPUs")
    cpus_per_task: int = Field(1, gt=0)
    gpus: bool = True
    partition: str | None = Field(None, pattern=r"^[\w.,-]+$")
    time: str = Field("24:00:00", pattern=r"^(\d+-)?\d+(:\d+){0,2}$")
    grace_seconds: int = Field(300, gt=0, description="signal before the time limit")


def render(run_dir: Path, options: JobOptions, python: str = sys.executable) -> str:
    """Return the job script; names and paths are quoted for the shell."""
    text = (resources.files("convbert.cluster") / "templates" / "pretrain.sbatch.j2").read_text()
    # A job script is not HTML; what could be misread is quoted below.
    environment = Environment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    return environment.from_string(text).render(
        **options.model_dump(),
        name=re.sub(r"[^\w.-]", "_", run_dir.resolve().name) or "convbert",
        run_dir=shlex.quote(str(run_dir.resolve())),
        python=shlex.quote(python),
    )


def submit(run_dir: Path, options: JobOptions, *, dry_run: bool = False) -> str | None:
    """Write ``slurm/pretrain.sbatch`` into the run directory and queue it; return the job id.

    With ``dry_run`` nothing is queued and None is returned. Raises ``UserError`` with SLURM's
    reason if it refuses the job.
    """
    folder = run_dir / "slurm"
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "pretrain.sbatch"
    with atomic_write(script) as file:
        file.write(render(run_dir, options).encode())
    if dry_run:
        return None
    # SLURM reads patterns such as %j in --output, so the script runs inside the run directory.
    command = ["sbatch", "--parsable", "--chdir", str(run_dir.resolve()), str(script.resolve())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UserError(
            "sbatch: not found; submit from a login node of the cluster, or use --dry-run to only "
            "write the script"
        ) from None
    if done.returncode:
        raise UserError(f"{script}: sbatch refused it: {done.stderr.strip()}")
    return done.stdout.strip().split(";")[0]
