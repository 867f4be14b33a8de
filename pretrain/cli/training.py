"""Commands of training: ``pretrain``, ``quickstart`` and ``study``."""

from pathlib import Path
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
def quickstart(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory for everything it makes.")
    ] = Path("quickstart"),
) -> None:
    """Text to fine-tuned model on this machine in about ten minutes, each command shown."""
    from convbert.pretrain.study.quickstart import run

    raise typer.Exit(run(output))


@app.command()
def study(
    design: Annotated[
        Path | None, typer.Argument(help="YAML file; default the shipped study of tiny models.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory for everything it makes.")
    ] = Path("study"),
    flops: Annotated[
        float | None, typer.Option(help="Training FLOPs of each run, hardware convention.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Runs of each variant.", min=1)] = None,
    workers: Annotated[
        int | None, typer.Option(help="Runs at once; default one per GPU, else per core.", min=1)
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only show and write the plan.")] = False,
) -> None:
    """Compare variants of the model on equal training FLOPs; start it again to go on."""
    from convbert.pretrain.study.commands import study as carry_out

    code = carry_out(design, output, flops=flops, seeds=seeds, workers=workers, only_plan=plan)
    raise typer.Exit(code)
