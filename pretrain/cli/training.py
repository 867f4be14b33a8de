"""The command that trains: ``pretrain``."""

import sys
from typing import Annotated

import typer

from convbert.pretrain.cli.arguments import NewRunDir, Overrides, Recipe

app = typer.Typer()


@app.command()
def pretrain(
    recipe: Recipe,
    overrides: Overrides = None,
    run_dir: NewRunDir = None,
    processes: Annotated[
        int | None, typer.Option(help="Processes on this machine; default one per GPU, else 1.")
    ] = None,
) -> None:
    """Pretrain on this machine; continues by itself if the run directory has a checkpoint."""
    from convbert.pretrain.run.exit_codes import STOPPED
    from convbert.pretrain.run.preparation import prepare
    from convbert.pretrain.training.launch import default_processes, launch

    world = processes or default_processes()
    run, config = prepare(recipe, overrides or [], run_dir, world)
    if run.finished(config):
        from convbert.pretrain.checkpoints import upload

        upload.complete(run.checkpoints, config.checkpoint)
        print(
            f"{run.path}: has finished its {config.steps:,} updates; raise steps to go on "
            "(docs/recovery.md says what becomes of the learning rate)"
        )
        return
    status = launch(run.path, world, config.threads)
    if status == STOPPED:
        print(f"stopped with a checkpoint; the same command continues {run.path}", file=sys.stderr)
    raise typer.Exit(status)
