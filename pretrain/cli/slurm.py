"""Commands of the cluster: ``submit``."""

from typing import Annotated

import typer

from convbert.models.errors import UserError
from convbert.pretrain.cli.arguments import NewRunDir, Overrides, Recipe

app = typer.Typer()


@app.command()
def submit(
    recipe: Recipe,
    overrides: Overrides = None,
    run_dir: NewRunDir = None,
    nodes: Annotated[int, typer.Option(help="Number of nodes.", min=1)] = 1,
    tasks_per_node: Annotated[int, typer.Option(help="Processes: GPUs per node.", min=1)] = 1,
    cpus_per_task: Annotated[int, typer.Option(help="CPU cores per process.", min=1)] = 1,
    gpus: Annotated[bool, typer.Option(help="Ask for one GPU per process.")] = True,
    partition: Annotated[str | None, typer.Option(help="Partition; default the site's.")] = None,
    time: Annotated[str, typer.Option(help="Time limit; the job requeues itself.")] = "24:00:00",
    grace_seconds: Annotated[
        int, typer.Option(help="How long before the limit to save and requeue.", min=1)
    ] = 300,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only write the script.")] = False,
) -> None:
    """Queue pretraining on SLURM; the job saves before its limit, requeues and continues."""
    from pydantic import ValidationError

    from convbert.cluster.submit import JobOptions
    from convbert.pretrain import commands

    try:
        options = JobOptions(
            nodes=nodes,
            tasks_per_node=tasks_per_node,
            cpus_per_task=cpus_per_task,
            gpus=gpus,
            partition=partition,
            time=time,
            grace_seconds=grace_seconds,
        )
    except ValidationError as error:
        detail = error.errors()[0]
        raise UserError(f"--{detail['loc'][0]}={detail['input']!r}: {detail['msg']}") from None
    commands.submit(recipe, overrides or [], run_dir, options, dry_run)
