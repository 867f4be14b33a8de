"""Commands of training: ``pretrain`` and ``plan``."""

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
    from convbert.pretrain import commands

    raise typer.Exit(commands.pretrain(recipe, overrides or [], run_dir, processes))


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
