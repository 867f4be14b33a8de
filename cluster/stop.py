"""Stopping a run's jobs: a running job saves a checkpoint first, all others are cancelled."""

from collections.abc import Iterator
from pathlib import Path

from convbert.cluster import scheduler
from convbert.cluster.follow import evaluated
from convbert.cluster.jobs import jobs_of, runs_of
from convbert.cluster.records import EVALUATED, JobRecords, write_table
from convbert.cluster.scheduler import Job
from convbert.models.errors import AbsentError, UserError


def stop(directory: Path) -> Iterator[str]:
    """Stop every job of a run, or of the runs of a sweep, and yield a line about each.

    Raises ``AbsentError`` where there is none, and ``UserError`` at the end where SLURM refused.
    """
    jobs = jobs_of(runs_of(directory))
    active = [(run_dir, job) for run_dir, found in jobs.items() for job in found.active]
    for run_dir, job in active:  # all, before the first one ends: none may go back into the queue
        JobRecords(run_dir).request_stop(job.id)
    told, refused = 0, []
    # Those that wait come first: one of a chain starts as soon as the one before it has ended.
    ordered = [_stop(job) for _, job in sorted(active, key=lambda pair: not pair[1].waits)]
    for lines in (*ordered, *(_stop_evaluations(p) for p in jobs)):
        try:
            for line in lines:
                told += 1
                yield line
        except UserError as error:
            refused.append(str(error))
    if refused:
        raise UserError(f"{directory}: {'; '.join(refused)}")
    if not told:
        raise AbsentError(f"{directory}: none of its jobs is queued or running")


def _stop(job: Job) -> Iterator[str]:
    if job.waits:
        scheduler.cancel(job.id)
        yield f"job {job.id}: was {job.state.lower()}, cancelled"
    elif job.state == "COMPLETING":
        yield f"job {job.id}: is ending, does not go back into the queue"
    else:
        scheduler.cancel(job.id, "--batch", "--signal=USR1")
        yield f"job {job.id}: saves what it has done and ends; `convbert logs` shows it"


def _stop_evaluations(run_dir: Path) -> Iterator[str]:
    """Cancel a run's evaluations; the next job of the run queues them again."""
    if not (run_dir / "slurm" / EVALUATED).is_file():
        return
    with evaluated(run_dir) as queued:
        for step, jobs in jobs_of([run_dir])[run_dir].evaluations.items():
            active = [job for job in jobs if job.active]
            for job in active:
                scheduler.cancel(job.id)
                yield f"job {job.id}: evaluation of step {step}, cancelled"
            if active:
                del queued[step]
                write_table(run_dir, EVALUATED, queued)
