"""The jobs of a run: those in its records, and those in the queue that a person submitted there."""

from collections.abc import Sequence
from pathlib import Path

from convbert.cluster import scheduler
from convbert.cluster.records import EVALUATED, JobRecords, read_table
from convbert.cluster.render import job_name
from convbert.cluster.scheduler import Job
from convbert.models.errors import AbsentError, UserError
from convbert.pretrain.settings.recipes import CONFIG


def runs_of(directory: Path) -> list[Path]:
    """Return the run directories of a sweep, or ``directory`` itself if it is none."""
    below = sorted(p.parent for p in directory.glob(f"*/{CONFIG}"))
    alone = (directory / CONFIG).is_file() or (directory / "slurm" / "jobs.jsonl").is_file()
    return [directory] if alone or not below else below


def jobs_of(run_dirs: Sequence[Path]) -> dict[Path, list[Job]]:
    """Return the jobs of runs, without their evaluations, in the order of their submission.

    The queue is asked once for all runs, accounting for what it has forgotten. A job that neither
    knows is left out. Raises as ``scheduler.queue``.
    """
    recorded = {p: [s.job for s in JobRecords(p).submissions()] for p in run_dirs}
    found = _known([j for ids in recorded.values() for j in ids], run_dirs)
    jobs = {}
    for run_dir, ids in recorded.items():
        # `sbatch slurm/pretrain.sbatch`, called there by hand, records nothing before it starts.
        place, name = str(run_dir.resolve()), job_name(run_dir.resolve().name)
        here = [j for j in found.values() if j.active and (j.directory, j.name) == (place, name)]
        arrays = read_table(run_dir / "slurm" / EVALUATED).values()
        by_hand = [j.id for j in here if j.id.partition("_")[0] not in arrays]
        jobs[run_dir] = [found[i] for i in dict.fromkeys([*ids, *by_hand]) if i in found]
    return jobs


def evaluations_of(run_dirs: Sequence[Path]) -> dict[Path, dict[str, list[Job]]]:
    """Return for each run the evaluated steps, each with the jobs of its array; as ``jobs_of``."""
    queued = {p: read_table(p / "slurm" / EVALUATED) for p in run_dirs}
    found = _known([j for arrays in queued.values() for j in arrays.values()], run_dirs)
    return {
        run_dir: {
            step: [job for name, job in found.items() if array in (name, name.partition("_")[0])]
            for step, array in arrays.items()
        }
        for run_dir, arrays in queued.items()
    }


def _known(ids: Sequence[str], run_dirs: Sequence[Path]) -> dict[str, Job]:
    """Return what the queue holds, and what accounting knows of the other jobs."""
    owners = {p.stat().st_uid for p in run_dirs if p.exists()}
    found = {job.id: job for job in scheduler.queue(owners)}
    arrays = {name.partition("_")[0] for name in found}
    missing = [i for i in ids if i not in found and i not in arrays]
    ended = {job.id: job for job in scheduler.accounted(missing)}
    return ended | found


def current_log(run_dir: Path, job: str | None = None) -> Path:
    """Return the log of the job that runs, else the newest one there is; or that of ``job``.

    Raises ``AbsentError`` if there is none yet.
    """
    if runs_of(run_dir) != [run_dir]:
        names = ", ".join(run.name for run in runs_of(run_dir))
        raise AbsentError(f"{run_dir}: is a sweep; name one of its runs: {names}")
    submitted = JobRecords(run_dir).submissions()
    logs = {s.job: (run_dir / s.log).resolve() for s in submitted}
    if job is not None:
        log = logs.get(job, run_dir / "slurm" / f"evaluate-{job}.log")
        if not log.is_file():
            raise AbsentError(f"{log}: not there; the job has not started, or is none of this run")
        return log
    if not logs:
        raise AbsentError(f"{run_dir}: no job was submitted for it; see `convbert submit --help`")
    there = sorted((j for j in logs if logs[j].is_file()), key=lambda j: logs[j].stat().st_mtime)
    if not there:
        raise AbsentError(f"{logs[submitted[-1].job]}: not there yet; the job has not started")
    try:
        running = {j.id for j in jobs_of([run_dir])[run_dir] if j.state == "RUNNING"}
    except UserError:  # no queue here: the logs are there all the same
        running = set()
    return logs[([j for j in there if j in running] or there)[-1]]
