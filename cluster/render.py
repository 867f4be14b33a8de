"""Job scripts from templates; what a shell or SLURM could misread is quoted or refused."""

import re
import shlex
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from pydantic import Field, StringConstraints, model_validator

from convbert.cluster.preflight.verdict import Policy
from convbert.cluster.site import Names, Site
from convbert.models.schema import StrictModel

Duration = Annotated[str, StringConstraints(pattern=r"^(\d+-)?\d+(:\d+){0,2}$")]
JobId = Annotated[str, StringConstraints(pattern=r"^\d+(_\d+)?$")]


class JobOptions(StrictModel):
    """What a job asks of SLURM, beside what the site profile says."""

    nodes: int = Field(1, gt=0)
    min_nodes: int | None = Field(None, gt=0, description="start with fewer if they are free")
    partition: Names | None = None
    time: Duration = "24:00:00"
    grace_seconds: int | None = Field(
        None, gt=0, description="signal before the limit; default a tenth of it, at most 300"
    )
    retries: int = Field(2, ge=0, description="after failures that left no new checkpoint")
    preflight: bool = True
    on_bad_node: Policy = "requeue"
    requeue: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> "JobOptions":
        if self.grace_seconds and self.grace_seconds >= self.limit_seconds:
            raise ValueError(
                f"grace_seconds={self.grace_seconds} leaves nothing of time={self.time}: lower it"
            )
        if self.min_nodes and self.min_nodes > self.nodes:
            raise ValueError(f"min_nodes={self.min_nodes} exceeds nodes={self.nodes}: lower it")
        return self

    @property
    def limit_seconds(self) -> float:
        """The time limit, which SLURM reads as minutes if it is a single number."""
        days, dash, clock = self.time.rpartition("-")
        parts = [int(p) for p in clock.split(":")]
        units = (3600, 60, 1) if dash or len(parts) == 3 else (60, 1)
        seconds = sum(n * unit for n, unit in zip(parts, units, strict=False))
        return 86_400.0 * int(days or 0) + seconds

    @property
    def signal_seconds(self) -> int:
        """How long before the limit the job is asked to save."""
        return self.grace_seconds or max(1, min(300, int(self.limit_seconds / 10)))


def _template(name: str) -> str:
    return (resources.files("convbert.cluster") / "templates" / name).read_text()


def render(template: str, run_dirs: Sequence[Path], site: Site, **values: Any) -> str:
    """Return the script ``template`` for one run directory or several.

    ``values`` are the template's own names. The filter ``sh`` quotes for the shell.
    """
    # A job script is not HTML; what could be misread is quoted with ``sh``.
    environment = Environment(
        loader=FunctionLoader(_template),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["sh"] = shlex.quote
    directories = [str(p.resolve()) for p in run_dirs]
    mounts = [*(site.container.mounts if site.container else []), *directories]
    common = {
        "site": site,
        "runs": directories,
        "mounts": mounts,
        "python": site.python or sys.executable,
        "name": job_name(run_dirs[0].resolve().name),
        "partition": None,
        "gpus": site.gpus_per_node,
        "cpus_per_task": site.cpus_per_task,
        "tasks_per_node": site.processes,
        "networked": True,
    }
    return environment.get_template(f"{template}.sbatch.j2").render(common | values)


def render_pretraining(
    run_dirs: Sequence[Path],
    site: Site,
    options: JobOptions,
    *,
    limit: int | None = None,
    follow_seconds: int | None = None,
) -> str:
    """Return the script that pretrains one run, or an array of runs of which ``limit`` at once."""
    fewest = options.min_nodes or options.nodes
    least = options.min_nodes or (1 if options.on_bad_node == "continue" else options.nodes)
    return render(
        "pretrain",
        run_dirs,
        site,
        **(options.model_dump() | {"min_nodes": fewest, "grace_seconds": options.signal_seconds}),
        least=least,
        limit=limit,
        follow_seconds=follow_seconds,
        limits=site.preflight.model_dump_json(exclude_defaults=True),
    )


def render_corpus(config: Path, output: Path, site: Site, options: JobOptions) -> str:
    """Return the script that builds a corpus with a Dask worker on each core of every node."""
    directory = Path.cwd()  # paths in the configuration are relative to it
    return render(
        "corpus",
        [output],
        site,
        nodes=options.nodes,
        min_nodes=options.min_nodes or options.nodes,
        partition=options.partition,
        time=options.time,
        retries=options.retries,
        tasks_per_node=1,
        gpus=0,
        networked=False,
        config=str(config.resolve()),
        directory=str(directory),
        mounts=[*(site.container.mounts if site.container else []), str(output.resolve())],
    )


def job_name(text: str) -> str:
    """Return a name that SLURM shows and nobody misreads."""
    return re.sub(r"[^\w.-]", "_", text, flags=re.ASCII)[:60] or "convbert"
