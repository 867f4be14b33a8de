"""The jobs of a run: those in its records, and those in the queue that a person submitted there."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from convbert.cluster import scheduler
from convbert.cluster.records import EVALUATED, JobRecords, read_table
from convbert.cluster.render import job_name
from convbert.cluster.scheduler import Job
from convbert.models.errors import AbsentError, UserError
from convbert.pretrain.settings.places import CONFIG


def runs_of(directory: Path) -> list[Path]:
    """Return the run directories of a sweep, or ``directory`` itself if it is none."""
    below = sorted(p.parent for p in directory.glob(f"*/{CONFIG}"))
    alone = (directory / CONFIG).is_file() or (directory / "slurm" / "jobs.jsonl").is_file()
    return [directory] if alone or not below else below


@dataclass(frozen=True)
class RunJobs:
    """The jobs of one run in the order of their submission, and those of each evaluated step."""

    jobs: list[Job] = field(default_factory=list)
    evaluations: dict[str, list[Job]] = field(default_factory=dict)

    @property
    def active(self) -> list[Job]:
        """Those that wait or run, without evaluations."""
        return [job for job in self.jobs if job.active]


def jobs_of(run_dirs: Sequence[Path]) -> dict[Path, RunJobs]:
    """Return the jobs of runs; one that SLURM does not know is left out.

    The queue is asked once for all runs, accounting for what it has forgotten. Raises as
    ``scheduler.queue``.
    """
    recorded = {p: [s.job for s in JobRecords(p).submissions()] for p in run_dirs}
    arrays = {p: read_table(p / "slurm" / EVALUATED) for p in run_dirs}
    ids = [job for p in run_dirs for job in (*recorded[p], *arrays[p].values())]
    found = _known(ids, {p.stat().st_uid for p in run_dirs if p.exists()})
    return {
        p: RunJobs(
            _own(p, recorded[p], [*arrays[p].values()], found),
            {step: _of_array(array, found) for step, array in arrays[p].items()},
        )
        for p in run_dirs
    }


def _known(ids: Sequence[str], users: Collection[int]) -> dict[str, Job]:
    """Return what the queue holds, and what accounting knows of the other jobs."""
    found = {job.id: job for job in scheduler.queue(users)}
    arrays = {name.partition("_")[0] for name in found}
    missing = [i for i in ids if i not in found and i not in arrays]
    return {job.id: job for job in scheduler.accounted(missing)} | found


def _own(
    run_dir: Path, ids: Sequence[str], arrays: Sequence[str], found: Mapping[str, Job]
) -> list[Job]:
    """Return a run's own jobs: those in its records, and those submitted there by hand.

    ``sbatch slurm/pretrain.sbatch`` records nothing before the job starts.
    """
    place, name = str(run_dir.resolve()), job_name(run_dir.resolve().name)
    here = [j for j in found.values() if j.active and (j.directory, j.name) == (place, name)]
    by_hand = [j.id for j in here if j.id.partition("_")[0] not in arrays]
    return [found[i] for i in dict.fromkeys([*ids, *by_hand]) if i in found]


def _of_array(array: str, found: Mapping[str, Job]) -> list[Job]:
    return [job for name, job in found.items() if array in (name, name.partition("_")[0])]


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
        running = {j.id for j in jobs_of([run_dir])[run_dir].active if j.state == "RUNNING"}
    except UserError:  # no queue here: the logs are there all the same
        running = set()
    return logs[([j for j in there if j in running] or there)[-1]]
