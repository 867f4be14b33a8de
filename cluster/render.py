"""Job scripts from templates; names that a shell or SLURM could misread are quoted or refused."""

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from convbert.cluster.bindings import (
    binds,
    configurations,
    corpus_paths,
    local_places,
    shared_paths,
)
from convbert.cluster.preflight.verdict import Policy
from convbert.cluster.site import Site
from convbert.cluster.words import Duration, Word, directive, expanded, has_variables
from convbert.data_pipeline.corpus_build.build_settings import BuildConfig
from convbert.data_pipeline.filters.corpus_settings import load_config
from convbert.data_pipeline.templates import templates
from convbert.models.schema import StrictModel, validate
from convbert.pretrain.run import exit_codes


class JobOptions(StrictModel):
    """The options of a job that the site profile does not decide."""

    nodes: int = Field(1, gt=0)
    min_nodes: int | None = Field(None, gt=0, description="start with fewer if they are free")
    partition: Word | None = None
    time: Duration = "24:00:00"
    grace_seconds: int | None = Field(
        None, gt=0, description="signal before the limit; default a tenth of it, at most 300"
    )
    retries: int = Field(2, ge=0, description="after failures that left no new checkpoint")
    preflight: bool = True
    on_bad_node: Policy = "requeue"
    after: list[str] | None = Field(None, description="jobs that must have succeeded before")
    chain: int = Field(1, gt=0, description="jobs in a row, where the cluster forbids requeueing")
    limit: int | None = Field(None, gt=0, description="runs of an array at once")
    again: bool = Field(False, description="although a job of the run is queued or running")
    dry_run: bool = Field(False, description="only write the script")

    @classmethod
    def of(cls, command: str, arguments: Mapping[str, object]) -> "JobOptions":
        """Take the fields from a command's arguments by name; raise ``UserError`` for a bad one."""
        given = {k: v for k, v in arguments.items() if k in cls.model_fields}
        return validate(cls, given, command, remedy=f"see `{command} --help`")

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
    def requeue(self) -> bool:
        """Whether the job goes back into the queue; in a chain the next job continues instead."""
        return self.chain == 1

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
        """Seconds before the limit at which the job is asked to save."""
        return self.grace_seconds or max(1, min(300, int(self.limit_seconds / 10)))


def render(
    template: str,
    run_dirs: Sequence[Path],
    site: Site,
    *,
    paths: Sequence[Path] | None = None,
    **values: Any,
) -> str:
    """Return the script ``template`` for one run directory or several.

    A container sees ``paths``, by default what the configurations of the runs name.

    ``values`` are the template's own names; ``exit`` has the exit statuses. Filters quote: ``sh``
    for the shell, ``expanded`` for the shell except variables, ``directive`` for ``#SBATCH`` lines.
    """
    environment = templates("convbert.cluster", html=False, folder="templates")
    environment.filters |= {"sh": shlex.quote, "expanded": expanded, "directive": directive}
    environment.filters["has_variables"] = has_variables
    common = {
        "exit": exit_codes,
        "site": site,
        "runs": [str(p.resolve()) for p in run_dirs],
        "mounts": [],
        "local": {},
        "python": site.python or sys.executable,
        "name": job_name(run_dirs[0].resolve().name),
        "partition": None,
        "gpus": site.gpus_per_node,
        "memory": site.memory,
        "exclusive": site.exclusive,
        "cpus_per_task": site.cpus_per_task,
        "tasks_per_node": site.processes,
        "networked": True,
    }
    names: dict[str, Any] = common | values
    if site.container:
        names["local"] = local_places(site, configurations(run_dirs))
        shared = shared_paths(run_dirs, site) if paths is None else paths
        names["mounts"] = binds(site, shared, names["local"])
    names["resources"] = resources(
        site, **{k: names[k] for k in ("partition", "gpus", "memory", "exclusive")}
    )
    names["on_node"] = environment.get_template("_node.j2").render(names)
    if template == "finetune":
        names["own_task"] = environment.get_template("_own_task.j2").render(names)
    vendor = " --rocm" if site.gpu_vendor == "amd" else " --nv"
    names["apptainer_gpus"] = vendor if names["gpus"] else ""
    names["srun"] = "".join(f"{option} " for option in srun_options(site))
    return environment.get_template(f"{template}.sbatch.j2").render(names)


def resources(
    site: Site, *, partition: str | None, gpus: int, memory: str | None, exclusive: bool
) -> list[tuple[str, str | None]]:
    """Return sbatch's options for what a job takes from the site, the profile's own last."""
    own = dict(site.sbatch)
    found: dict[str, str | None] = {
        "partition": partition or site.partition,
        **{key: getattr(site, key) for key in ("account", "qos", "constraint", "exclude")},
        "mem": memory,
    }
    found = {key: value for key, value in found.items() if value}
    wanted = f"{site.gpu_type}:{gpus}" if site.gpu_type else str(gpus)
    gres = [f"gpu:{wanted}"] if gpus and site.gpu_request == "gres" else []
    gres += [other] if (other := own.pop("gres", None)) else []
    if gres:
        found["gres"] = ",".join(gres)
    if gpus and site.gpu_request == "gpus-per-node":
        found["gpus-per-node"] = wanted
    if exclusive:
        found["exclusive"] = None
    return [*found.items(), *own.items()]


def srun_options(site: Site) -> list[str]:
    """Return the profile's options for srun, quoted for the shell."""
    return [
        f"--{key}" if value is None else f"--{key}={shlex.quote(value)}"
        for key, value in site.srun.items()
    ]


def render_pretraining(
    run_dirs: Sequence[Path], site: Site, options: JobOptions, follow_seconds: int | None = None
) -> str:
    """Return the script that pretrains one run, or an array of several runs.

    With ``follow_seconds`` it queues the evaluation of new permanent checkpoints that often.
    """
    fewest = options.min_nodes or options.nodes
    least = options.min_nodes or (1 if options.on_bad_node == "continue" else options.nodes)
    return render(
        "pretrain",
        run_dirs,
        site,
        name=job_name(run_dirs[0].resolve().name if len(run_dirs) == 1 else _sweep(run_dirs)),
        **(options.model_dump() | {"min_nodes": fewest, "grace_seconds": options.signal_seconds}),
        requeue=options.requeue,
        least=least,
        follow_seconds=follow_seconds,
        limits=site.preflight.model_dump_json(exclude_defaults=True),
    )


def _sweep(run_dirs: Sequence[Path]) -> str:
    """Return the name of several runs, whose directories lie in one."""
    return run_dirs[0].resolve().parent.name


def render_corpus(config: Path, output: Path, site: Site, options: JobOptions) -> str:
    """Return the script that builds a corpus with a Dask worker on each core of every node."""
    cores = site.processes * site.cpus_per_task
    settings = load_config(config, BuildConfig) if site.container else None
    return render(
        "corpus",
        [output],
        site,
        paths=corpus_paths(config, output, settings) if settings else None,
        nodes=options.nodes,
        min_nodes=options.min_nodes or options.nodes,
        partition=options.partition,
        time=options.time,
        retries=options.retries,
        tasks_per_node=1,
        cpus_per_task=cores,
        gpus=0,
        config=str(config.resolve()),
        directory=str(Path.cwd()),  # paths in the configuration are relative to it
    )


def job_name(text: str) -> str:
    """Return the job name for a run: at most 60 letters, digits, ``_``, ``.`` and ``-``."""
    return re.sub(r"[^\w.-]", "_", text, flags=re.ASCII)[:60] or "convbert"
