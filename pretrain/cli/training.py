"""Commands of training: ``pretrain`` and ``plan``."""

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


@app.command()
def plan(
    recipe: Recipe,
    overrides: Overrides = None,
    gpus: Annotated[int, typer.Option(help="GPUs the run gets.", min=1)] = 1,
    gpu: Annotated[str, typer.Option(help="Kind: a100, h100, l40s, v100, ...")] = "a100",
    mfu: Annotated[float, typer.Option(help="Share of the peak, e.g. speed/mfu of a run.")] = 0.4,
    price: Annotated[float, typer.Option(help="Of one GPU hour.", min=0)] = 0.0,
) -> None:
    """Show memory, time and cost of a recipe before anything is queued."""
    from convbert.pretrain import commands

    commands.plan(recipe, overrides or [], gpus, gpu, mfu, price)
