"""Write job scripts into run directories and queue them."""

from collections.abc import Sequence
from pathlib import Path

from convbert.cluster import scheduler
from convbert.cluster.division import refusal
from convbert.cluster.records import JobRecords
from convbert.cluster.render import JobOptions, render_corpus, render_pretraining
from convbert.cluster.site import Site
from convbert.data_pipeline.atomic import atomic_write
from convbert.models.errors import UserError


def write_script(directory: Path, name: str, text: str) -> Path:
    """Write ``slurm/NAME.sbatch`` into a directory and return its path."""
    folder = directory / "slurm"
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / f"{name}.sbatch"
    with atomic_write(script) as file:
        file.write(text.encode())
    return script


def submit_pretraining(
    run_dir: Path,
    site: Site,
    options: JobOptions,
    *,
    after: Sequence[str] = (),
    chain: int = 1,
    follow_seconds: int | None = None,
    dry_run: bool = False,
) -> tuple[Path, list[str]]:
    """Write the script of a run and queue it ``chain`` times, each after the one before.

    Returns the script and the jobs' ids, none with ``dry_run``. ``after`` are jobs that must have
    succeeded. Raises ``UserError`` where SLURM refuses it, or ``min_nodes`` cannot share the global
    batches. A chain is for clusters that do not requeue: each job continues where the one before
    stopped. Nodes that earlier jobs of the run found bad are avoided.
    """
    _require_fewest([run_dir], site, options)
    if chain > 1:
        options = options.model_copy(update={"requeue": False})
    text = render_pretraining([run_dir], site, options, follow_seconds=follow_seconds)
    script = write_script(run_dir, "pretrain", text)
    records = JobRecords(run_dir)
    jobs: list[str] = []
    while not dry_run and len(jobs) < chain:
        waits = f"afterany:{jobs[-1]}" if jobs else _after(after)
        job = scheduler.sbatch(script, run_dir, *waiting(waits), *avoiding(records, site))
        records.submitted(job, "pretrain", run_dir / "slurm" / f"{job}.log")
        jobs.append(job)
    return script, jobs


def submit_array(
    root: Path,
    run_dirs: Sequence[Path],
    site: Site,
    options: JobOptions,
    *,
    after: Sequence[str] = (),
    limit: int | None = None,
    dry_run: bool = False,
) -> tuple[Path, list[str]]:
    """Write one script for several runs below ``root`` and queue it as a job array.

    At most ``limit`` run at once. Returns the script and the ids of the array's tasks.
    """
    _require_fewest(run_dirs, site, options)
    script = write_script(
        root, "pretrain", render_pretraining(run_dirs, site, options, limit=limit)
    )
    if dry_run:
        return script, []
    array = scheduler.sbatch(script, root, *waiting(_after(after)))
    tasks = [f"{array}_{i}" for i in range(len(run_dirs))] if len(run_dirs) > 1 else [array]
    for task, run_dir in zip(tasks, run_dirs, strict=True):
        JobRecords(run_dir).submitted(task, "pretrain", root / "slurm" / f"{task}.log")
    return script, tasks


def submit_corpus(
    config: Path,
    output: Path,
    site: Site,
    options: JobOptions,
    *,
    after: Sequence[str] = (),
    dry_run: bool = False,
) -> tuple[Path, list[str]]:
    """Write the script that builds a corpus on several nodes into ``output/slurm`` and queue it."""
    text = render_corpus(config, output, site, options)
    script = write_script(output, "corpus", text)
    if dry_run:
        return script, []
    job = scheduler.sbatch(script, output, *waiting(_after(after)))
    JobRecords(output).submitted(job, "corpus", output / "slurm" / f"{job}.log")
    return script, [job]


def _require_fewest(run_dirs: Sequence[Path], site: Site, options: JobOptions) -> None:
    """Refuse a smallest number of nodes that cannot train; raises ``UserError``."""
    if options.min_nodes is None:
        return
    for run_dir in run_dirs:
        reason = refusal(run_dir, options.min_nodes * site.processes)
        if reason is not None:
            raise UserError(f"--min-nodes {options.min_nodes}: {reason}")


def _after(jobs: Sequence[str]) -> str:
    return f"afterok:{':'.join(jobs)}" if jobs else ""


def waiting(dependency: str) -> list[str]:
    """Return sbatch's option for a dependency; a job whose condition cannot come true ends."""
    return [f"--dependency={dependency}", "--kill-on-invalid-dep=yes"] if dependency else []


def avoiding(records: JobRecords, site: Site) -> list[str]:
    """Return sbatch's option for the nodes that this run found bad."""
    nodes = [*records.excluded(), *([site.exclude] if site.exclude else [])]
    return [f"--exclude={','.join(nodes)}"] if nodes else []
