"""Commands that move weights: ``export`` and ``import``."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from convbert.pretrain.cli.arguments import Average, RunDir

app = typer.Typer()


@app.command()
def export(
    run: RunDir,
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to create.")],
    step: Annotated[int | None, typer.Option(help="Checkpoint; default the newest.", min=1)] = None,
    average: Average = None,
    license_code: Annotated[
        str, typer.Option("--license", help="For the model card, e.g. apache-2.0.")
    ] = "unknown",
    language: Annotated[
        list[str] | None,
        typer.Option(help="For the model card, e.g. en; default those of `corpus build`."),
    ] = None,
    register: Annotated[
        str | None, typer.Option(help="Name in MLflow's model registry to add a version to.")
    ] = None,
) -> None:
    """Write a checkpoint in Hugging Face format: config, weights, tokenizer, model card."""
    from convbert.pretrain.cli.progress import counter
    from convbert.pretrain.exchange.averaging import parse_average
    from convbert.pretrain.exchange.export import export_checkpoint
    from convbert.pretrain.exchange.registering import (
        register_export,
        require_delivered,
        require_name,
    )
    from convbert.pretrain.run.directory import RunDirectory

    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    directory = RunDirectory(run)
    if register is not None:
        require_name(register)
        require_delivered(directory)
    with counter("exporting"):
        written = export_checkpoint(
            directory,
            output,
            step,
            parse_average(average),
            license_code=license_code,
            languages=language or (),
        )
    print(f"{output}: step {written} in Hugging Face format")
    if register is not None:
        with counter("registering"):
            version = register_export(directory, output, written, register)
        print(f"models:/{register}/{version}: registered in MLflow")
    print(
        f"next: convbert finetune {shlex.quote(str(output))} --task TASK (of `convbert tasks list`)"
    )


@app.command("import")
def import_(
    source: Annotated[
        Path, typer.Argument(help="Hugging Face directory, or prefix of a TensorFlow checkpoint.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to create.")],
    size: Annotated[
        str | None, typer.Option(help="Size of a TensorFlow checkpoint: small, base, ...")
    ] = None,
    vocab_size: Annotated[
        int | None, typer.Option(help="Ids of a TensorFlow checkpoint; default 30522.", min=1)
    ] = None,
    vocab: Annotated[
        Path | None, typer.Option(help="vocab.txt to take in place of the source's own.")
    ] = None,
    cased: Annotated[
        bool | None,
        typer.Option(
            "--cased/--uncased", help="Whether a vocab.txt without settings has capitals."
        ),
    ] = None,
    no_tokenizer: Annotated[
        bool, typer.Option("--no-tokenizer", help="Take the weights alone.")
    ] = False,
) -> None:
    """Take over released weights; start from them with model.init_from=OUTPUT."""
    from convbert.pretrain.cli.progress import counter
    from convbert.pretrain.exchange.importing import import_weights
    from convbert.pretrain.exchange.tokenizer_import import TokenizerChoice

    with counter("importing"):
        networks, tokenizer = import_weights(
            source,
            output,
            size=size,
            vocab_size=vocab_size,
            tokenizer=TokenizerChoice(vocab, cased, no_tokenizer),
        )
    print(f"{output}: {networks}")
    print(f"tokenizer: {tokenizer}")
    place = shlex.quote(str(output))
    print(f"next: convbert pretrain RECIPE model.init_from={place} data.tokenizer={place}")
