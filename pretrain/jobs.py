"""What the cluster's commands do: queue recipes, look at jobs, read and stop them."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.live import Live

from convbert.cluster import scheduler
from convbert.cluster import submit as submit_jobs
from convbert.cluster.follow import Evaluation
from convbert.cluster.records import JobRecords, Submission
from convbert.cluster.render import JobOptions
from convbert.cluster.site import Site
from convbert.cluster.status import overview
from convbert.cluster.submit import submit_array, submit_pretraining
from convbert.data_pipeline.atomic import atomic_write
from convbert.data_pipeline.corpus_build.build_settings import BuildConfig
from convbert.data_pipeline.filters.corpus_settings import load_config
from convbert.models.errors import UserError
from convbert.pretrain.run.preparation import prepare


def submit(
    recipe: str,
    overrides: list[str],
    run_dir: Path | None,
    site: Site,
    options: JobOptions,
    *,
    after: Sequence[str] = (),
    chain: int = 1,
    evaluation: Evaluation | None = None,
    dry_run: bool = False,
) -> None:
    """Prepare the run directory and queue the job, or only write its script."""
    run, _ = prepare(recipe, overrides, run_dir, options.nodes * site.processes)
    keep_site(run.path, site)
    follows = evaluation is not None
    if evaluation is not None:
        evaluation.save(run.path)
        if site.container is not None and site.container.runtime == "pyxis":
            follows = False
            print(f"no sbatch inside the container: run `convbert follow {run.path}` now and then")
    script, jobs = submit_pretraining(
        run.path,
        site,
        options,
        after=after,
        chain=chain,
        follow_seconds=evaluation.every_seconds if evaluation and follows else None,
        dry_run=dry_run,
    )
    _tell(script, jobs)


def submit_sweep(
    recipe: str,
    overrides: list[str],
    root: Path | None,
    sweep: Path,
    site: Site,
    options: JobOptions,
    *,
    after: Sequence[str] = (),
    limit: int | None = None,
    dry_run: bool = False,
) -> None:
    """Prepare a run directory below ``root`` for every entry of ``sweep`` and queue an array."""
    root = root or Path("runs") / sweep.stem
    run_dirs = []
    for name, (own_recipe, settings) in read_sweep(sweep).items():
        run, _ = prepare(
            own_recipe or recipe,
            [*overrides, *settings],
            root / name,
            options.nodes * site.processes,
        )
        keep_site(run.path, site)
        run_dirs.append(run.path)
    script, jobs = submit_array(
        root, run_dirs, site, options, after=after, limit=limit, dry_run=dry_run
    )
    _tell(script, jobs)


def read_sweep(path: Path) -> dict[str, tuple[str | None, list[str]]]:
    """Read ``NAME: {recipe: ..., KEY: VALUE, ...}`` into a recipe and settings for each run."""
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(f"--array {path}: cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        raise UserError(f"--array {path}: not valid YAML: {error}") from None
    if not isinstance(content, dict) or not content:
        raise UserError(f"--array {path}: write one 'NAME: {{KEY: VALUE}}' for each run")
    found = {}
    for name, settings in content.items():
        if not isinstance(settings, dict) or str(name) in (".", "..") or "/" in str(name):
            raise UserError(f"--array {path}: '{name}': write it as NAME: {{KEY: VALUE}}")
        values: dict[str, Any] = dict(settings)
        own = values.pop("recipe", None)
        found[str(name)] = own, [f"{k}={json.dumps(v)}" for k, v in values.items()]
    return found


def submit_corpus(
    config: Path,
    output: Path,
    site: Site,
    options: JobOptions,
    *,
    after: Sequence[str] = (),
    dry_run: bool = False,
) -> None:
    """Check the configuration of a corpus and queue its building, or only write the script."""
    load_config(config, BuildConfig)
    _tell(*submit_jobs.submit_corpus(config, output, site, options, after=after, dry_run=dry_run))


def keep_site(run_dir: Path, site: Site) -> None:
    """Keep the profile with the run, for the jobs that follow it."""
    (run_dir / "slurm").mkdir(parents=True, exist_ok=True)
    with atomic_write(run_dir / "slurm" / "site.yaml") as file:
        file.write(yaml.safe_dump(site.model_dump(mode="json"), sort_keys=False).encode())


def _tell(script: Path, jobs: Sequence[str]) -> None:
    what = f"job {', '.join(jobs)}: {script}" if jobs else f"{script}: written, not queued"
    print(what)


def status(run_dirs: Sequence[Path], *, watch: bool, seconds: float = 10.0) -> None:
    """Show a table of runs, once or until interrupted."""
    chosen = list(run_dirs) or sorted(p.parent for p in Path("runs").glob("**/config.yaml"))
    if not chosen:
        raise UserError("runs/: no run directory in it; name the runs to show")
    console = Console()
    if not watch:
        if not console.is_terminal:  # a file or another program: nothing needs to fit
            console = Console(width=300)
        console.print(overview(chosen))
        return
    with Live(overview(chosen), console=console, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(seconds)
                live.update(overview(chosen), refresh=True)
        except KeyboardInterrupt:
            return


def _last_submission(run_dir: Path) -> Submission:
    found = JobRecords(run_dir).submissions()
    if not found:
        raise UserError(f"{run_dir}: no job was submitted for it; see `convbert submit --help`")
    return found[-1]


def logs(run_dir: Path, *, follow: bool, lines: int) -> int:
    """Show the end of the newest job's log; return the exit code."""
    log = (run_dir / _last_submission(run_dir).log).resolve()
    if not log.is_file():
        raise UserError(f"{log}: not there yet; the job has not started")
    print(f"==> {log}", file=sys.stderr, flush=True)
    options = ["-F"] if follow else []
    return subprocess.run(
        ["tail", "-n", str(lines), *options, "--", str(log)], check=False
    ).returncode


def stop(run_dir: Path) -> None:
    """Let the run's jobs save a checkpoint and end; waiting jobs are cancelled."""
    records = JobRecords(run_dir)
    submitted = [s.job for s in records.submissions()]
    active = {name: job for name, job in scheduler.jobs(submitted).items() if job.active}
    if not active:
        raise UserError(f"{run_dir}: none of its jobs is queued or running")
    for name, job in active.items():
        if job.state != "RUNNING":
            scheduler.cancel(name)
            print(f"job {name}: was {job.state.lower()}, cancelled")
            continue
        records.request_stop(name)
        scheduler.cancel(name, "--batch", "--signal=USR1")
        print(f"job {name}: saves a checkpoint and ends; `convbert logs` shows it")
