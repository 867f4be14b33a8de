"""Evaluation follows training: every permanent checkpoint gets fine-tuning jobs of its own.

``python -m convbert.cluster.follow RUN`` queues one array for each permanent checkpoint that has
none yet, and ends. The run's job script calls it once a minute while it trains, and
``convbert follow`` does the same from a login node. Training never waits for an evaluation.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from convbert.cluster import scheduler
from convbert.cluster.bindings import shared_paths
from convbert.cluster.records import EVALUATED, JobRecords, identity, read_table, write, write_table
from convbert.cluster.render import job_name, render
from convbert.cluster.site import Site
from convbert.cluster.words import Duration, Word
from convbert.data_pipeline.locks import locked
from convbert.models.errors import AbsentError
from convbert.models.schema import StrictModel, read_record
from convbert.pretrain.run.checkpoint_manifest import checkpoint_steps
from convbert.pretrain.run.directory import RunDirectory

_PLAN = "evaluation.json"


class Evaluation(StrictModel):
    """The fine-tuning of every permanent checkpoint, with one array task for each task."""

    every_seconds: ClassVar[int] = 60  # between two calls by the job script

    tasks: dict[str, Path] = Field(min_length=1, description="each with the folder of its files")
    seeds: int = Field(3, gt=0)
    partition: Word | None = None
    time: Duration = "4:00:00"

    def save(self, run_dir: Path) -> None:
        """Write the plan into the run directory."""
        write(run_dir, _PLAN, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, run_dir: Path) -> "Evaluation":
        """Read the plan of a run; raise ``AbsentError`` if it has none."""
        path = run_dir / "slurm" / _PLAN
        if not path.is_file():
            raise AbsentError(f"{path}: missing; submit the run with --evaluate TASK")
        remedy = "submit the run again"
        return read_record(cls, path, what="an evaluation plan", remedy=remedy)


def permanent_steps(run: RunDirectory) -> list[int]:
    """Return the steps of checkpoints that are kept for good: each ``keep_every``, and the last."""
    config = run.open()
    every = config.checkpoint.keep_every
    return [
        step
        for step in checkpoint_steps(run.checkpoints)
        if (every and step % every == 0) or step == config.steps
    ]


def follow(run_dir: Path) -> list[str]:
    """Queue an array for each permanent checkpoint that has none; return the jobs' ids.

    A job that was asked to stop queues none.
    """
    plan, site = Evaluation.load(run_dir), Site.kept(run_dir)
    jobs: list[str] = []
    with evaluated(run_dir) as queued:
        if "SLURM_JOB_ID" in os.environ and JobRecords(run_dir).stop_requested(identity()[0]):
            return jobs
        for step in permanent_steps(RunDirectory(run_dir)):
            if str(step) in queued:
                continue
            queued[str(step)] = submit_evaluation(run_dir, site, plan, step)
            write_table(run_dir, EVALUATED, queued)
            jobs.append(queued[str(step)])
    return jobs


@contextmanager
def evaluated(run_dir: Path) -> Iterator[dict[str, str]]:
    """Give the steps whose evaluation was queued, each with its job; nobody else queues any."""
    path = run_dir / "slurm" / EVALUATED
    with locked(path.with_name(f".{EVALUATED}.lock")):
        yield read_table(path)


def submit_evaluation(run_dir: Path, site: Site, plan: Evaluation, step: int) -> str:
    """Queue the fine-tuning of one checkpoint as an array; return its id."""
    text = evaluation_script(run_dir, site, plan, step)
    script = write(run_dir, f"evaluate-{step:08d}.sbatch", text)
    return scheduler.sbatch(script, run_dir, *JobRecords(run_dir).exclude_option(site.exclude))


def evaluation_script(run_dir: Path, site: Site, plan: Evaluation, step: int) -> str:
    """Return the job script that fine-tunes one checkpoint, each task with a share of a node.

    Where the site gives whole nodes only, an array task runs as many tasks side by side as a node
    has GPUs, or processes.
    """
    slots = min(site.processes, len(plan.tasks)) if site.whole_nodes else 1
    return render(
        "finetune",
        [run_dir],
        site,
        paths=[*shared_paths([run_dir], site), *plan.tasks.values()] if site.container else None,
        name=job_name(f"evaluate-{step}-{run_dir.resolve().name}"),
        nodes=None,
        slots=slots,
        gpus=slots if site.gpus_per_node else 0,
        memory=site.memory if site.whole_nodes else site.memory_share,
        networked=False,
        partition=plan.partition,
        time=plan.time,
        tasks={task: str(folder) for task, folder in plan.tasks.items()},
        seeds=plan.seeds,
        step=step,
    )


if __name__ == "__main__":
    for job in follow(Path(sys.argv[1])):
        print(f"convbert: evaluation queued as job {job}", flush=True)
