"""The command ``plan``: what a recipe needs, before anything is queued."""

import os
from typing import Annotated

import typer

from convbert.pretrain.cli.arguments import FormatOption, Overrides, Recipe, between
from convbert.pretrain.cli.settings_command import SettingsCommand
from convbert.pretrain.run.tables import Output

app = typer.Typer()


@app.command(cls=SettingsCommand)
def plan(
    recipe: Recipe,
    overrides: Overrides = None,
    gpus: Annotated[
        int | None,
        typer.Option(help="GPUs the run gets; default 1, with --measure its processes.", min=1),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(help="Kind: h100, l40s, ...; default a100, with --measure this machine's."),
    ] = None,
    mfu: Annotated[
        float | None,
        typer.Option(
            help="Share of the peak, e.g. speed/mfu of a run; default from measurements.",
            callback=between(0.001, 1),
        ),
    ] = None,
    price: Annotated[float, typer.Option(help="Of one GPU hour.", callback=between(0))] = 0.0,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time a few updates on this machine.")
    ] = False,
    processes: Annotated[
        int | None, typer.Option(help="With --measure; default as in `pretrain`.", min=1)
    ] = None,
    form: FormatOption = "table",
) -> None:
    """Show memory, time and cost of a recipe before it is queued or its shards are built."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    from convbert.models.errors import UserError
    from convbert.pretrain.cli.progress import counter
    from convbert.pretrain.planning.show import show

    world = None
    if processes and not measure:
        raise UserError(f"--processes {processes}: it is for --measure; leave it out")
    if measure and (mfu or price):
        given = f"--mfu {mfu:g}" if mfu else f"--price {price:g}"
        raise UserError(f"{given}: is for a plan that is not measured; leave out one of them")
    if measure:
        from convbert.pretrain.training.launch import processes_here

        world = processes_here(processes)
    busy = counter("timing a few updates")
    show(recipe, overrides or [], gpus, gpu, mfu, price, world, Output(form), busy)
