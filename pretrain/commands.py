"""What the commands of the command line do, as functions."""

import os
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from convbert.data_pipeline.sources import Corpus
from convbert.data_pipeline.tokenizer import Tokenizer
from convbert.models.errors import UserError
from convbert.pretrain import checks
from convbert.pretrain.checkpoints import checkpoint
from convbert.pretrain.config import RunConfig, resolve
from convbert.pretrain.run_directory import RunDirectory


def _default_processes() -> int:
    import torch

    return max(1, torch.cuda.device_count())


def prepare(
    recipe: str, overrides: list[str], run_dir: Path | None, world: int
) -> tuple[RunDirectory, RunConfig]:
    """Resolve and check a configuration for ``world`` processes and write the run directory."""
    config = resolve(recipe, overrides)
    tokenizer = Tokenizer.load(config.data.tokenizer)
    checks.check(config, Corpus(config.data.blend), tokenizer.digest, world)
    run = RunDirectory(run_dir or Path("runs") / Path(recipe).stem)
    run.prepare(config.absolute())
    return run, run.open()


def pretrain(recipe: str, overrides: list[str], run_dir: Path | None, processes: int | None) -> int:
    """Prepare the run directory, check the inputs and launch; return the exit code."""
    from convbert.pretrain.training.launch import launch

    world = processes or _default_processes()
    run, config = prepare(recipe, overrides, run_dir, world)
    path = run.path
    if checkpoint.directory(run.checkpoints, config.steps).is_dir():
        print(f"{path}: has finished its {config.steps:,} updates; raise steps to go on")
        return 0
    code = launch(path, world, config.threads)
    if code == 75:
        print(f"stopped with a checkpoint; the same command continues {path}", file=sys.stderr)
    return code


def _vocabulary(config: RunConfig) -> tuple[int, int]:
    """Return vocabulary size and sequence length of the shards, or BERT's if there are none."""
    try:
        corpus = Corpus(config.data.blend)
    except UserError:
        return 30_522, 128
    return corpus.vocab_size, corpus.seq_len


def plan(recipe: str, overrides: list[str]) -> None:
    """Print parameters and FLOPs of a recipe."""
    from convbert.models.counts import parameter_counts
    from convbert.models.flops import training_flops_per_sequence

    config = resolve(recipe, overrides)
    vocab_size, seq_len = _vocabulary(config)
    networks = config.model.build(vocab_size)
    sequences = config.steps * config.global_batch
    table = Table(title=f"{recipe}: {config.model.preset}, {vocab_size} ids, length {seq_len}")
    table.add_column("quantity")
    table.add_column("value", justify="right")
    counts = parameter_counts(networks)
    table.add_row("parameters, encoder that is kept", f"{counts.encoder.total:,}")
    table.add_row("parameters, all that is trained", f"{counts.total:,}")
    table.add_row("updates", f"{config.steps:,}")
    table.add_row("tokens", f"{sequences * seq_len:.3e}")
    for convention in ("electra", "hardware"):
        flops = sequences * training_flops_per_sequence(networks, seq_len, convention)
        table.add_row(f"training FLOPs, {convention}", f"{flops:.3e}")
    Console().print(table)


def export(run_dir: Path, output: Path, step: int | None) -> None:
    """Export a checkpoint; raises ``UserError`` if it does not exist or cannot be expressed."""
    from convbert.pretrain.exchange.export import export_checkpoint

    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    written = export_checkpoint(RunDirectory(run_dir), output, step)
    print(f"{output}: step {written} in Hugging Face format")


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
