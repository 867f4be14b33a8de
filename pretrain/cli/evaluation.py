"""Commands of evaluation and tracking: ``finetune`` and ``track``."""

from pathlib import Path
from typing import Annotated

import typer

from convbert.pretrain.cli.arguments import RunDir

app = typer.Typer()
track_app = typer.Typer(help="Deliver a run's metrics to MLflow.", no_args_is_help=True)


@app.command()
def finetune(
    run: RunDir,
    task: Annotated[str, typer.Option(help="Task of the package, or a YAML file.")],
    data_dir: Annotated[
        Path | None, typer.Option(help="Where the task's files are; default beside the YAML.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Fine-tunings per checkpoint.", min=1)] = 3,
    step: Annotated[
        list[int] | None, typer.Option(help="Checkpoints to take; default all of the run.")
    ] = None,
) -> None:
    """Fine-tune a run's checkpoints and draw accuracy against training FLOPs."""
    from convbert.pretrain import commands

    commands.finetune(run, task, data_dir, seeds, step or [])


@track_app.command("sync")
def track_sync(
    run: RunDir,
    uri: Annotated[str | None, typer.Option(help="Tracking server; default the run's.")] = None,
) -> None:
    """Deliver what an unreachable server missed; repeating it sends nothing twice."""
    from convbert.pretrain.tracking.tracker import sync

    typer.echo(f"{sync(run, uri)} metrics delivered")
