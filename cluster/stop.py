"""Stopping a run's jobs: a running job saves a checkpoint first, a waiting one is cancelled."""

from collections.abc import Iterator
from pathlib import Path

from convbert.cluster import scheduler
from convbert.cluster.records import JobRecords
from convbert.models.errors import AbsentError


def stop(run_dir: Path) -> Iterator[str]:
    """Stop the jobs of a run and yield a line about each; raise ``AbsentError`` without any."""
    records = JobRecords(run_dir)
    submitted = [s.job for s in records.submissions()]
    active = {name: job for name, job in scheduler.jobs(submitted).items() if job.active}
    if not active:
        raise AbsentError(f"{run_dir}: none of its jobs is queued or running")
    for name, job in active.items():
        if job.state != "RUNNING":
            scheduler.cancel(name)
            yield f"job {name}: was {job.state.lower()}, cancelled"
            continue
        records.request_stop(name)
        scheduler.cancel(name, "--batch", "--signal=USR1")
        yield f"job {name}: saves a checkpoint and ends; `convbert logs` shows it"
