"""What the commands of the command line do, as functions."""

import os
from pathlib import Path

from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.settings.recipes import resolve


def plan(
    recipe: str, overrides: list[str], gpus: int, gpu_name: str, mfu: float, price: float
) -> None:
    """Print what a recipe needs on so many GPUs."""
    from convbert.pretrain.engine.gpus import gpu
    from convbert.pretrain.planning.show import show

    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    card = gpu(gpu_name)
    show(recipe, resolve(recipe, overrides), gpus, gpu_name, card, mfu, price)


def export(
    run_dir: Path,
    output: Path,
    step: int | None,
    average: str | None = None,
    registered: str | None = None,
) -> None:
    """Export a checkpoint, and make it a version of the model ``registered`` in MLflow.

    Raises ``UserError`` if it does not exist or cannot be expressed.
    """
    from convbert.pretrain.exchange.averaging import parse_average
    from convbert.pretrain.exchange.export import export_checkpoint
    from convbert.pretrain.exchange.registering import register

    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    run = RunDirectory(run_dir)
    written = export_checkpoint(run, output, step, parse_average(average))
    print(f"{output}: step {written} in Hugging Face format")
    if registered is not None:
        version = register(run, output, written, registered)
        print(f"models:/{registered}/{version}: registered in MLflow")


def import_weights(
    source: Path, output: Path, size: str | None, vocab_size: int, vocab: Path | None
) -> None:
    """Import weights and say what was found."""
    from convbert.pretrain.exchange import importing

    done, note = importing.import_weights(
        source, output, size=size, vocab_size=vocab_size, vocab=vocab
    )
    generator = done.generator or done.generator_refusal or "none"
    print(f"{output}: {done.architecture}; generator: {generator}")
    print(f"vocabulary: {note}")
