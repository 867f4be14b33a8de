"""Write job scripts into run directories and queue them."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from convbert.cluster import scheduler
from convbert.cluster.elastic import refusal
from convbert.cluster.follow import Evaluation, evaluation_script
from convbert.cluster.jobs import jobs_of
from convbert.cluster.records import JobRecords, write
from convbert.cluster.render import JobOptions, render_corpus, render_pretraining
from convbert.cluster.site import Site
from convbert.models.errors import UserError
from convbert.pretrain.finetune.sources import read_splits
from convbert.pretrain.finetune.task import load_tasks, match_tasks

Queued = tuple[Path, list[str]]
"""A job script, and the ids of the jobs that were queued with it."""


def submit_pretraining(
    run_dir: Path, site: Site, options: JobOptions, evaluation: Evaluation | None = None
) -> Queued:
    """Write the script of a run and queue it ``chain`` times, each job after the one before.

    Raises ``UserError`` where SLURM refuses it, or ``min_nodes`` cannot share the global batches. A
    chain is for clusters that do not requeue: each job continues where the one before stopped.
    Nodes that earlier jobs of the run found bad are avoided.
    """
    _require_fewest([run_dir], site, options)
    site.keep(run_dir)
    if evaluation is not None:
        evaluation.save(run_dir)
    seconds = evaluation.every_seconds if evaluation and not site.pyxis else None
    text = render_pretraining([run_dir], site, options, follow_seconds=seconds)
    script = write(run_dir, "pretrain.sbatch", text)
    if evaluation is not None and not options.dry_run:
        _require_evaluation(run_dir, site, evaluation)
    records = JobRecords(run_dir)
    jobs: list[str] = []
    while not options.dry_run and len(jobs) < options.chain:
        waits = _dependency(f"afterany:{jobs[-1]}") if jobs else _after(options)
        job = scheduler.sbatch(script, run_dir, *waits, *records.exclude_option(site.exclude))
        records.submitted(job, "pretrain", run_dir / "slurm" / f"{job}.log")
        jobs.append(job)
    return script, jobs


def submit_array(root: Path, run_dirs: Sequence[Path], site: Site, options: JobOptions) -> Queued:
    """Write one script for several runs below ``root`` and queue it as a job array.

    At most ``limit`` run at once, on nodes that no run has found bad. The ids are those of the
    array's tasks.
    """
    _require_fewest(run_dirs, site, options)
    for run_dir in run_dirs:
        site.keep(run_dir)
    script = write(root, "pretrain.sbatch", render_pretraining(run_dirs, site, options))
    if options.dry_run:
        return script, []
    bad = [node for run_dir in run_dirs for node in JobRecords(run_dir).excluded()]
    bad += [site.exclude] if bad and site.exclude else []
    avoid = [f"--exclude={','.join(dict.fromkeys(bad))}"] if bad else []
    array = scheduler.sbatch(script, root, *_after(options), *avoid)
    tasks = [f"{array}_{i}" for i in range(len(run_dirs))] if len(run_dirs) > 1 else [array]
    for task, run_dir in zip(tasks, run_dirs, strict=True):
        JobRecords(run_dir).submitted(task, "pretrain", root / "slurm" / f"{task}.log")
    return script, tasks


def submit_corpus(config: Path, output: Path, site: Site, options: JobOptions) -> Queued:
    """Write the script that builds a corpus on several nodes into ``output/slurm`` and queue it."""
    require_idle([output], options)
    script = write(output, "corpus.sbatch", render_corpus(config, output, site, options))
    if options.dry_run:
        return script, []
    job = scheduler.sbatch(script, output, *_after(options))
    JobRecords(output).submitted(job, "corpus", output / "slurm" / f"{job}.log")
    return script, [job]


def require_idle(run_dirs: Sequence[Path], options: JobOptions) -> None:
    """Raise ``UserError`` if a job of these runs waits or runs, unless ``again`` was given."""
    if options.again or options.dry_run:
        return
    for run_dir, found in jobs_of(run_dirs).items():
        active = [f"{job.id} ({job.state.lower()})" for job in found.active]
        if active:
            raise UserError(
                f"{run_dir}: has a job already: {', '.join(active)}; let it go on, end it with "
                "`convbert stop`, or queue another one all the same with --again"
            )


def locate(tasks: Sequence[str], data_dir: Path | None) -> dict[str, Path]:
    """Return each task, absolute where it is a file, with the absolute folder of its files.

    A job starts in another directory, so everything is looked up, and read, when it is submitted.
    Raises ``UserError`` for a task, or a file of one, that cannot be used.
    """
    found = {}
    names = match_tasks(tasks)
    for name, task in zip(names, load_tasks(names, data_dir, []), strict=True):
        read_splits(task)
        path = Path(name)
        is_file = path.is_file()
        folder = data_dir or (path.parent if is_file else Path())
        found[str(path.resolve()) if is_file else name] = folder.resolve()
    return found


def _require_evaluation(run_dir: Path, site: Site, evaluation: Evaluation) -> None:
    """Refuse evaluations that SLURM would refuse hours later; raise ``UserError``."""
    with tempfile.NamedTemporaryFile("w", suffix=".sbatch") as script:
        script.write(evaluation_script(run_dir, site, evaluation, 0))
        script.flush()
        reason = scheduler.refusal(Path(script.name), run_dir)
    if reason is not None:
        raise UserError(
            f"--evaluate: sbatch would refuse its jobs: {reason}; correct the site profile, "
            "--partition or --evaluate-time"
        )


def _require_fewest(run_dirs: Sequence[Path], site: Site, options: JobOptions) -> None:
    """Refuse a smallest number of nodes that cannot train; raise ``UserError``."""
    if options.min_nodes is None:
        return
    for run_dir in run_dirs:
        reason = refusal(run_dir, options.min_nodes * site.processes)
        if reason is not None:
            raise UserError(f"--min-nodes {options.min_nodes}: {reason}")


def _after(options: JobOptions) -> list[str]:
    return _dependency(f"afterok:{':'.join(options.after)}") if options.after else []


def _dependency(condition: str) -> list[str]:
    """Return sbatch's options for a dependency; a job whose condition cannot come true ends."""
    return [f"--dependency={condition}", "--kill-on-invalid-dep=yes"]
