"""Commands of the cluster: ``submit``, ``status``, ``logs``, ``stop`` and the checks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from convbert.models.errors import UserError
from convbert.pretrain.cli.arguments import NewRunDir, Overrides, Recipe, RunDir
from convbert.pretrain.cli.data import corpus_app

if TYPE_CHECKING:
    from pydantic import BaseModel

    from convbert.cluster.follow import Evaluation

app = typer.Typer()
Model = TypeVar("Model", bound="BaseModel")
SiteName = Annotated[
    str,
    typer.Option(
        "--site", envvar="CONVBERT_SITE", help="Site profile: local, cpu, a100, h100, or a file."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only write the script.")]


def _from_options(model: type[Model], prefix: str = "", **values: Any) -> Model:
    """Build a model whose fields are options that begin with ``prefix``; raises ``UserError``."""
    from pydantic import ValidationError

    try:
        return model.model_validate(values)
    except ValidationError as error:
        detail = error.errors()[0]
        message = detail["msg"].removeprefix("Value error, ")
        where = f"--{prefix}{detail['loc'][0]}={detail['input']!r}: " if detail["loc"] else ""
        raise UserError(where.replace("_", "-") + message) from None


def _evaluation(
    tasks: list[str], data_dir: Path | None, seeds: int, partition: str | None, time: str
) -> "Evaluation":
    """Look the tasks up and describe the jobs that evaluate checkpoints; raises ``UserError``."""
    from convbert.cluster.follow import Evaluation, locate

    located = locate(tasks, data_dir)
    return _from_options(
        Evaluation, "evaluate-", tasks=located, seeds=seeds, partition=partition, time=time
    )


@app.command()
def submit(
    recipe: Recipe,
    overrides: Overrides = None,
    run_dir: NewRunDir = None,
    site: SiteName = "local",
    nodes: Annotated[int, typer.Option(help="Number of nodes.", min=1)] = 1,
    min_nodes: Annotated[
        int | None, typer.Option(help="Start with as few as these if no more are free.", min=1)
    ] = None,
    partition: Annotated[str | None, typer.Option(help="Instead of the site's.")] = None,
    time: Annotated[str, typer.Option(help="Time limit; the job requeues itself.")] = "24:00:00",
    grace_seconds: Annotated[
        int | None,
        typer.Option(help="Save this long before the limit; default a tenth, at most 300.", min=1),
    ] = None,
    retries: Annotated[
        int, typer.Option(help="Tries after failures without a new checkpoint.", min=0)
    ] = 2,
    preflight: Annotated[bool, typer.Option(help="Check every node before training.")] = True,
    on_bad_node: Annotated[
        str, typer.Option(help="requeue without it, continue without it, or ignore it.")
    ] = "requeue",
    after: Annotated[
        list[str] | None, typer.Option(help="Start when these jobs have succeeded.")
    ] = None,
    chain: Annotated[
        int, typer.Option(help="Jobs in a row, where the cluster forbids requeueing.", min=1)
    ] = 1,
    array: Annotated[
        Path | None, typer.Option(help="Sweep: YAML with NAME: {KEY: VALUE} for each run.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Runs of an array at once.", min=1)] = None,
    evaluate: Annotated[
        list[str] | None, typer.Option(help="Fine-tune permanent checkpoints on this task.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where the task's files are.")] = None,
    seeds: Annotated[int, typer.Option(help="Fine-tunings per checkpoint.", min=1)] = 3,
    evaluate_time: Annotated[
        str, typer.Option(help="Time limit of a task's fine-tunings of a checkpoint.")
    ] = "4:00:00",
    dry_run: DryRun = False,
) -> None:
    """Queue pretraining on SLURM; the job saves before its limit, requeues and continues."""
    from convbert.cluster.render import JobOptions
    from convbert.cluster.site import load_site
    from convbert.pretrain import jobs

    options = _from_options(
        JobOptions,
        nodes=nodes,
        min_nodes=min_nodes,
        partition=partition,
        time=time,
        grace_seconds=grace_seconds,
        retries=retries,
        preflight=preflight,
        on_bad_node=on_bad_node,
    )
    profile = load_site(site)
    if array is not None:
        if chain > 1 or evaluate:
            raise UserError("--array: cannot be combined with --chain or --evaluate")
        jobs.submit_sweep(
            recipe,
            overrides or [],
            run_dir,
            array,
            profile,
            options,
            after=after or [],
            limit=limit,
            dry_run=dry_run,
        )
        return
    place = profile.partition or partition
    plan = _evaluation(evaluate, data_dir, seeds, place, evaluate_time) if evaluate else None
    jobs.submit(
        recipe,
        overrides or [],
        run_dir,
        profile,
        options,
        after=after or [],
        chain=chain,
        evaluation=plan,
        dry_run=dry_run,
    )


@corpus_app.command("submit")
def submit_corpus(
    config: Annotated[Path, typer.Argument(help="YAML file, as for `corpus build`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for everything.")],
    site: SiteName = "local",
    nodes: Annotated[int, typer.Option(help="Number of nodes.", min=1)] = 1,
    partition: Annotated[str | None, typer.Option(help="Instead of the site's.")] = None,
    time: Annotated[str, typer.Option(help="Time limit; the job requeues itself.")] = "24:00:00",
    retries: Annotated[int, typer.Option(help="Tries after failures.", min=0)] = 2,
    after: Annotated[
        list[str] | None, typer.Option(help="Start when these jobs have succeeded.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Queue a corpus build on several nodes; the result is that of a local build."""
    from convbert.cluster.render import JobOptions
    from convbert.cluster.site import load_site
    from convbert.pretrain import jobs

    options = _from_options(
        JobOptions, nodes=nodes, partition=partition, time=time, retries=retries
    )
    jobs.submit_corpus(config, output, load_site(site), options, after=after or [], dry_run=dry_run)


@app.command()
def status(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Run directories; default all below runs/.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh until Ctrl-C.")] = False,
) -> None:
    """Show runs: queue state, step, loss, time to the end and to the limit, last checkpoint."""
    from convbert.pretrain import jobs

    jobs.status(runs or [], watch=watch)


@app.command()
def logs(
    run: RunDir,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="Lines from the end.")] = 50,
) -> None:
    """Show the log of a run's newest job."""
    from convbert.pretrain import jobs

    raise typer.Exit(jobs.logs(run, follow=follow, lines=lines))


@app.command()
def stop(run: RunDir) -> None:
    """Let a run's job save a checkpoint and end; `convbert submit` continues it later."""
    from convbert.pretrain import jobs

    jobs.stop(run)


@app.command()
def follow(run: RunDir) -> None:
    """Queue, once, the evaluation of permanent checkpoints that have none yet."""
    from convbert.cluster.follow import follow as look

    for job in look(run):
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

    raise typer.Exit(check_here(run_dir, gpus, load_site(site).preflight))
