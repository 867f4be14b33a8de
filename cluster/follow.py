"""Evaluation follows training: every permanent checkpoint gets fine-tuning jobs of its own.

``python -m convbert.cluster.follow RUN`` looks once for permanent checkpoints that have no jobs yet
and queues one array for each; the job script of the run does that while it trains, and
``convbert follow`` does it from a login node. Training never waits for an evaluation.
"""

import fcntl
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import yaml
from pydantic import Field

from convbert.cluster import scheduler
from convbert.cluster.records import JobRecords
from convbert.cluster.render import Duration, render
from convbert.cluster.site import Names, Site
from convbert.cluster.submit import avoiding, write_script
from convbert.data_pipeline.atomic import atomic_write
from convbert.models.errors import UserError
from convbert.models.schema import StrictModel

_PLAN = "evaluation.json"
_QUEUED = "evaluated.json"


class Evaluation(StrictModel):
    """What is done with every permanent checkpoint; one array task for each fine-tuning task."""

    every_seconds: ClassVar[int] = 60  # how often the job script looks

    tasks: dict[str, Path] = Field(min_length=1, description="each with the folder of its files")
    seeds: int = Field(3, gt=0)
    partition: Names | None = None
    time: Duration = "4:00:00"

    def save(self, run_dir: Path) -> None:
        """Keep the plan with the run."""
        (run_dir / "slurm").mkdir(parents=True, exist_ok=True)
        with atomic_write(run_dir / "slurm" / _PLAN) as file:
            file.write(self.model_dump_json(indent=1).encode() + b"\n")

    @classmethod
    def load(cls, run_dir: Path) -> "Evaluation":
        """Read the plan of a run; raises ``UserError`` if it has none."""
        path = run_dir / "slurm" / _PLAN
        if not path.is_file():
            raise UserError(f"{path}: missing; submit the run with --evaluate TASK")
        return cls.model_validate_json(path.read_text())


def locate(tasks: Sequence[str], data_dir: Path | None) -> dict[str, Path]:
    """Return each task, absolute where it is a file, with the absolute folder of its files.

    A job starts in another directory, so everything is looked up, and read, when it is submitted.
    Raises ``UserError`` for a task, or a file of one, that cannot be used.
    """
    # Only here: both load torch, and the job script looks for checkpoints once a minute.
    from convbert.pretrain.finetune.sources import read_splits
    from convbert.pretrain.finetune.task import load_tasks, match_tasks

    found = {}
    names = match_tasks(tasks)
    for name, task in zip(names, load_tasks(names, data_dir, []), strict=True):
        read_splits(task)
        path = Path(name)
        is_file = path.is_file()
        folder = data_dir or (path.parent if is_file else Path())
        found[str(path.resolve()) if is_file else name] = folder.resolve()
    return found


def permanent_steps(records: JobRecords) -> list[int]:
    """Return the steps of checkpoints that are kept for good: each ``keep_every``, and the last."""
    config = records.config()
    every = (config.get("checkpoint") or {}).get("keep_every")
    return [
        s
        for s in records.checkpoint_steps()
        if (every and s % every == 0) or s == config.get("steps")
    ]


def follow(run_dir: Path) -> list[str]:
    """Queue an array for each permanent checkpoint that has none; return the jobs' ids."""
    plan, records = Evaluation.load(run_dir), JobRecords(run_dir)
    site = Site.model_validate(yaml.safe_load((run_dir / "slurm" / "site.yaml").read_text()))
    path = run_dir / "slurm" / _QUEUED
    jobs = []
    # A look that the job script has started may still be at work when the next one begins.
    with (run_dir / "slurm" / f".{_QUEUED}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        queued: dict[str, str] = json.loads(path.read_text()) if path.is_file() else {}
        for step in permanent_steps(records):
            if str(step) in queued:
                continue
            job = submit_evaluation(run_dir, site, plan, step)
            queued[str(step)] = job
            with atomic_write(path) as file:
                file.write(json.dumps(queued, indent=1).encode() + b"\n")
            jobs.append(job)
    return jobs


def submit_evaluation(run_dir: Path, site: Site, plan: Evaluation, step: int) -> str:
    """Queue the fine-tuning tasks of one checkpoint as an array; return its id."""
    script = write_script(
        run_dir, f"evaluate-{step:08d}", evaluation_script(run_dir, site, plan, step)
    )
    return scheduler.sbatch(script, run_dir, *avoiding(JobRecords(run_dir), site))


def evaluation_script(run_dir: Path, site: Site, plan: Evaluation, step: int) -> str:
    """Return the job script that fine-tunes one checkpoint, an array task for each task."""
    return render(
        "finetune",
        [run_dir],
        site,
        nodes=None,
        gpus=min(1, site.gpus_per_node),
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
