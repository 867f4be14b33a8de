"""The command ``convbert``: argument parsing only, the work is imported when a command runs."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from convbert.models.errors import UserError

app = typer.Typer(
    help="Pretrain ConvBERT encoders: text to shards, shards to a model, a model to Hugging Face.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
tokenizer_app = typer.Typer(help="Train and inspect tokenizers.", no_args_is_help=True)
shards_app = typer.Typer(help="Build, verify and look into shards.", no_args_is_help=True)
track_app = typer.Typer(help="Deliver a run's metrics to MLflow.", no_args_is_help=True)
app.add_typer(tokenizer_app, name="tokenizer")
app.add_typer(shards_app, name="shards")
app.add_typer(track_app, name="track")

Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Settings as key=value, e.g. steps=20000 optimizer.learning_rate=5e-4"),
]
RunDir = Annotated[Path, typer.Argument(help="Directory of the run.", metavar="RUN")]


@app.callback()
def _options(
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show where an error comes from.")
    ] = False,
) -> None:
    if traceback:
        os.environ["CONVBERT_TRACEBACK"] = "1"


@app.command()
def pretrain(
    recipe: Annotated[str, typer.Argument(help="Shipped recipe (tiny, small, ...) or YAML file.")],
    overrides: Overrides = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Run directory; default runs/RECIPE.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(help="Processes on this machine; default one per GPU, else 1.")
    ] = None,
) -> None:
    """Pretrain on this machine; continues by itself if the run directory has a checkpoint."""
    from convbert.pretrain import commands

    raise typer.Exit(commands.pretrain(recipe, overrides or [], run_dir, processes))


@app.command()
def plan(
    recipe: Annotated[str, typer.Argument(help="Shipped recipe or YAML file.")],
    overrides: Overrides = None,
) -> None:
    """Show parameters and FLOPs of a recipe before anything is queued."""
    from convbert.pretrain import commands

    commands.plan(recipe, overrides or [])


@app.command()
def export(
    run: RunDir,
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to create.")],
    step: Annotated[int | None, typer.Option(help="Checkpoint; default the newest.")] = None,
) -> None:
    """Write a checkpoint in Hugging Face format: config, weights, tokenizer, model card."""
    from convbert.pretrain import commands

    commands.export(run, output, step)


@track_app.command("sync")
def track_sync(
    run: RunDir,
    uri: Annotated[str | None, typer.Option(help="Tracking server; default the run's.")] = None,
) -> None:
    """Deliver what an unreachable server missed; repeating it sends nothing twice."""
    from convbert.pretrain.tracking import sync

    typer.echo(f"{sync(run, uri)} metrics delivered")


def main() -> int:
    """Run the command line; a user's error is one line on stderr and exit status 2."""
    try:
        app()
    except UserError as error:
        if os.environ.get("CONVBERT_TRACEBACK"):
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
