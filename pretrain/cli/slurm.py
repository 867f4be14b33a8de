"""Commands of the cluster: jobs are submitted, shown, stopped and evaluated, nodes are checked."""

import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Annotated

import typer

from convbert.models.errors import AbsentError, UserError
from convbert.pretrain.cli import completion
from convbert.pretrain.cli.arguments import FormatOption, NewRunDir, Overrides, Recipe, RunDir
from convbert.pretrain.cli.corpus import corpus_app
from convbert.pretrain.cli.settings_command import SettingsCommand
from convbert.pretrain.run.tables import Output, fitted

if TYPE_CHECKING:
    from convbert.cluster.follow import Evaluation
    from convbert.cluster.submit import Queued
    from convbert.pretrain.run.directory import RunDirectory

app = typer.Typer()
WATCH_SECONDS = 10.0
SiteName = Annotated[
    str,
    typer.Option(
        "--site",
        envvar="CONVBERT_SITE",
        help="Site profile: a name of `convbert site list`, or a file.",
        autocompletion=completion.sites,
    ),
]
Nodes = Annotated[int, typer.Option(help="Number of nodes.", min=1)]
MinNodes = Annotated[
    int | None, typer.Option(help="Start with as few as these if no more are free.", min=1)
]
Partition = Annotated[str | None, typer.Option(help="Instead of the site's.")]
TimeLimit = Annotated[str, typer.Option(help="Time limit; the job requeues itself.")]
GraceSeconds = Annotated[
    int | None,
    typer.Option(help="Save this long before the limit; default a tenth, at most 300.", min=1),
]
Retries = Annotated[int, typer.Option(help="Tries after failures without a new checkpoint.", min=0)]
OnBadNode = Annotated[
    str, typer.Option(help="requeue without it, continue without it, or ignore it.")
]
After = Annotated[list[str] | None, typer.Option(help="Start when these jobs have succeeded.")]
Chain = Annotated[
    int, typer.Option(help="Jobs in a row, where the cluster forbids requeueing.", min=1)
]
Sweep = Annotated[
    Path | None, typer.Option(help="Sweep: YAML with NAME: {KEY: VALUE} for each run.")
]
Limit = Annotated[int | None, typer.Option(help="Runs of an array at once.", min=1)]
Evaluate = Annotated[
    list[str] | None, typer.Option(help="Fine-tune permanent checkpoints on this task.")
]
EvaluateTime = Annotated[
    str | None,
    typer.Option(help="Time limit of a task's fine-tunings of a checkpoint; default 4:00:00."),
]
Seeds = Annotated[int | None, typer.Option(help="Fine-tunings per checkpoint; default 3.", min=1)]
Again = Annotated[
    bool, typer.Option("--again", help="Although a job of it is queued or running already.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only write the script.")]


@app.command(cls=SettingsCommand)
def submit(
    recipe: Recipe,
    overrides: Overrides = None,
    run_dir: NewRunDir = None,
    site: SiteName = "local",
    nodes: Nodes = 1,
    min_nodes: MinNodes = None,
    partition: Partition = None,
    time: TimeLimit = "24:00:00",
    grace_seconds: GraceSeconds = None,
    retries: Retries = 2,
    preflight: Annotated[bool, typer.Option(help="Check every node before training.")] = True,
    on_bad_node: OnBadNode = "requeue",
    after: After = None,
    chain: Chain = 1,
    array: Sweep = None,
    limit: Limit = None,
    evaluate: Evaluate = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where the task's files are.")] = None,
    seeds: Seeds = None,
    evaluate_time: EvaluateTime = None,
    again: Again = False,
    dry_run: DryRun = False,
) -> None:
    """Queue pretraining on SLURM; the job saves before its limit, requeues and continues."""
    from convbert.cluster.bindings import require_image
    from convbert.cluster.render import JobOptions
    from convbert.cluster.site import load_site
    from convbert.cluster.submit import require_idle, submit_array, submit_pretraining
    from convbert.cluster.sweep import read_sweep
    from convbert.pretrain.run.preparation import default_directory

    options = JobOptions.of("convbert submit", locals())
    _refuse_alone({"--limit": limit} if array is None else {}, "--array")
    profile = load_site(site)
    require_image(profile)
    world, settings = options.nodes * profile.processes, overrides or []
    if array is not None:
        if chain > 1 or evaluate:
            raise UserError("--array: cannot be combined with --chain or --evaluate")
        root = run_dir or Path("runs") / array.stem
        sweep = read_sweep(array)
        require_idle([root / name for name in sweep], options)
        each = {
            name: (own_recipe or recipe, [*settings, *own], root / name, world)
            for name, (own_recipe, own) in sweep.items()
        }
        runs = _prepare_all(array, each)
        _show(submit_array(root, runs, profile, options), "status --watch", root)
        return
    plan = _evaluation(evaluate, data_dir, seeds, evaluate_time, profile.partition or partition)
    require_idle([run_dir or default_directory(recipe)], options)
    run = _prepare(recipe, settings, run_dir, world)
    if plan and profile.pyxis:
        print(f"no sbatch inside the container: run `convbert follow {run.argument}` now and then")
    _show(submit_pretraining(run.path, profile, options, plan), "status --watch", run.path)


@corpus_app.command("submit")
def submit_corpus(
    config: Annotated[Path, typer.Argument(help="YAML file, as for `corpus build`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for everything.")],
    site: SiteName = "local",
    nodes: Nodes = 1,
    partition: Partition = None,
    time: TimeLimit = "24:00:00",
    retries: Annotated[int, typer.Option(help="Tries after failures.", min=0)] = 2,
    after: After = None,
    again: Again = False,
    dry_run: DryRun = False,
) -> None:
    """Queue a corpus build on several nodes; the result is that of a local build."""
    from convbert.cluster import submit as jobs
    from convbert.cluster.bindings import require_image
    from convbert.cluster.render import JobOptions
    from convbert.cluster.site import load_site
    from convbert.data_pipeline.corpus_build.build_settings import BuildConfig
    from convbert.data_pipeline.filters.corpus_settings import load_config

    options = JobOptions.of("convbert corpus submit", locals())
    profile = load_site(site)
    require_image(profile)
    load_config(config, BuildConfig)
    _show(jobs.submit_corpus(config, output, profile, options), "logs --follow", output)


def _evaluation(
    tasks: list[str] | None,
    data_dir: Path | None,
    seeds: int | None,
    time: str | None,
    partition: str | None,
) -> "Evaluation | None":
    """Return what is measured while training goes on; options of it alone are refused."""
    if not tasks:
        alone = {"--data-dir": data_dir, "--seeds": seeds, "--evaluate-time": time}
        _refuse_alone(alone, "--evaluate")
        return None
    from convbert.cluster.follow import Evaluation
    from convbert.cluster.submit import locate
    from convbert.models.schema import validate

    wanted = {"tasks": locate(tasks, data_dir), "seeds": seeds, "time": time}
    given = {key: value for key, value in wanted.items() if value is not None}
    return validate(Evaluation, given | {"partition": partition}, f"--evaluate-time={time!r}")


def _refuse_alone(options: Mapping[str, object], partner: str) -> None:
    """Raise ``UserError`` for an option that says something only beside ``partner``."""
    for name, value in options.items():
        if value is not None:
            raise UserError(f"{name} {value}: is for {partner}; give that too, or leave it out")


def _prepare_all(array: Path, wanted: dict[str, tuple[str, list[str], Path, int]]) -> list[Path]:
    """Write the directories of a sweep's runs, once all of them can be trained."""
    from convbert.pretrain.cli.training import require_start_of
    from convbert.pretrain.run.preparation import plan_run, prepare

    for name, given in wanted.items():
        try:
            require_start_of(plan_run(*given))
        except UserError as error:
            raise type(error)(f"--array {array}: '{name}': {error}") from None
    return [prepare(*given)[0].path for given in wanted.values()]


def _prepare(recipe: str, settings: list[str], run_dir: Path | None, world: int) -> "RunDirectory":
    """Write the directory of a run that can be trained."""
    from convbert.pretrain.cli.training import require_start_of
    from convbert.pretrain.run.preparation import plan_run, prepare

    require_start_of(plan_run(recipe, settings, run_dir, world))
    return prepare(recipe, settings, run_dir, world)[0]


def _show(queued: "Queued", following: str, place: Path) -> None:
    """Say what was queued, and the command that follows it."""
    script, jobs = queued
    if not jobs:
        print(f"{script}: written, not queued; the same command without --dry-run queues it")
        return
    print(f"job {', '.join(jobs)}: {script}")
    print(f"next: convbert {following} {shlex.quote(str(place))}")


@app.command()
def status(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Run directories; default all below runs/.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh until Ctrl-C.")] = False,
    form: FormatOption = "table",
) -> None:
    """Show runs: queue state, step, loss, time to the end and to the limit, last checkpoint."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    from convbert.cluster.jobs import runs_below, runs_of
    from convbert.cluster.status import HEADINGS, TEXT, overview, shown_at

    if watch and form != "table":
        raise UserError(f"--format {form}: is for one look; leave out --watch")
    chosen = runs_below(Path("runs"))
    if runs:
        chosen = [run for directory in runs for run in runs_of(directory)]
    if not chosen:
        raise AbsentError("runs/: no run directory in it; name the runs to show")
    if not watch:
        rows, note = overview(chosen)
        out = Output(form)
        out.table(HEADINGS, rows, text=TEXT)
        if note:
            out.note(note)
        for line in shown_at(chosen):  # not in the table, which would fold an address
            out.note(line)
        return
    console = Console()

    def now() -> Group:
        rows, note = overview(chosen)
        table = fitted(HEADINGS, rows, console.width, text=TEXT)
        return Group(table, *([Text(note)] if note else []))

    with Live(now(), console=console, auto_refresh=False) as live:
        try:
            while True:
                sleep(WATCH_SECONDS)
                live.update(now(), refresh=True)
        except KeyboardInterrupt:
            return


@app.command()
def logs(
    run: RunDir,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="Lines from the end.", min=1)] = 50,
    job: Annotated[
        str | None, typer.Option(help="That of one job, e.g. 12, or 14_0 of an evaluation.")
    ] = None,
) -> None:
    """Show the log of a run's job: the one that runs, else the newest one that has a log."""
    from convbert.cluster.jobs import current_log

    log = current_log(run, job)
    print(f"==> {log}", file=sys.stderr, flush=True)
    command = ["tail", "-n", str(lines), *(["-F"] if follow else []), "--", str(log)]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


@app.command()
def stop(run: RunDir) -> None:
    """End all jobs of a run, a sweep or a corpus: what runs saves first; `submit` continues it."""
    from convbert.cluster.stop import stop as stop_jobs

    for line in stop_jobs(run):
        print(line)


@app.command()
def follow(run: RunDir) -> None:
    """Queue, once, the evaluation of permanent checkpoints that have none yet."""
    from convbert.cluster.follow import follow as queue_evaluations

    for job in queue_evaluations(run):
        print(f"evaluation queued as job {job}")


@app.command()
def preflight(
    run_dir: Annotated[
        Path, typer.Option(help="Directory that must be shared and writable.")
    ] = Path(),
    gpus: Annotated[int, typer.Option(help="GPUs this machine should have.", min=0)] = 0,
    site: SiteName = "local",
) -> None:
    """Check this machine as a job checks its nodes; exit status 1 if it is not fit."""
    from convbert.cluster.preflight.node import check_here
    from convbert.cluster.site import load_site
    from convbert.pretrain.cli.progress import counter

    limits = load_site(site).preflight
    with counter("checking this machine"):
        code = check_here(run_dir, gpus, limits)
    raise typer.Exit(code)
