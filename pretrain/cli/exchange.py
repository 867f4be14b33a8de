"""Commands that move weights: ``export`` and ``import``."""

from pathlib import Path
from typing import Annotated

import typer

from convbert.pretrain.cli.arguments import Average, RunDir

app = typer.Typer()


@app.command()
def export(
    run: RunDir,
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to create.")],
    step: Annotated[int | None, typer.Option(help="Checkpoint; default the newest.")] = None,
    average: Average = None,
    register: Annotated[
        str | None, typer.Option(help="Name in MLflow's model registry to add a version to.")
    ] = None,
) -> None:
    """Write a checkpoint in Hugging Face format: config, weights, tokenizer, model card."""
    from convbert.pretrain import commands

    commands.export(run, output, step, average, register)


@app.command("import")
def import_(
    source: Annotated[
        Path, typer.Argument(help="Hugging Face directory, or prefix of a TensorFlow checkpoint.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to create.")],
    size: Annotated[
        str | None, typer.Option(help="Size of a TensorFlow checkpoint: small, base, ...")
    ] = None,
    vocab_size: Annotated[int, typer.Option(help="Ids of a TensorFlow checkpoint.")] = 30_522,
    vocab: Annotated[Path | None, typer.Option(help="vocab.txt to add, checked.")] = None,
) -> None:
    """Take over released weights; start from them with model.init_from=OUTPUT."""
    from convbert.pretrain import commands

    commands.import_weights(source, output, size, vocab_size, vocab)
