"""What the commands of the command line do, as functions."""

import os
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from convbert.data_pipeline.manifest import Manifest
from convbert.models.errors import UserError
from convbert.pretrain import checks
from convbert.pretrain.config import RunConfig, resolve
from convbert.pretrain.run_directory import RunDirectory


def _default_processes() -> int:
    import torch

    return max(1, torch.cuda.device_count())


def pretrain(recipe: str, overrides: list[str], run_dir: Path | None, processes: int | None) -> int:
    """Prepare the run directory, check the inputs and launch; return the exit code."""
    from convbert.pretrain.launch import launch

    config = resolve(recipe, overrides)
    path = run_dir or Path("runs") / Path(recipe).stem
    world = processes or _default_processes()
    checks.check(config, Manifest.load(config.data.manifest), world)
    RunDirectory(path).prepare(config)
    code = launch(path, world, config.threads)
    if code == 75:
        print(f"stopped with a checkpoint; the same command continues {path}", file=sys.stderr)
    return code


def _vocabulary(config: RunConfig) -> tuple[int, int]:
    """Return vocabulary size and sequence length of the shards, or BERT's if there are none."""
    try:
        manifest = Manifest.load(config.data.manifest)
    except UserError:
        return 30_522, 128
    return manifest.vocab_size, manifest.seq_len


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
    for part, count in parameter_counts(networks).items():
        table.add_row(f"parameters, {part}", f"{count:,}")
    table.add_row("updates", f"{config.steps:,}")
    table.add_row("tokens", f"{sequences * seq_len:.3e}")
    for convention in ("electra", "hardware"):
        flops = sequences * training_flops_per_sequence(networks, seq_len, convention)
        table.add_row(f"training FLOPs, {convention}", f"{flops:.3e}")
    Console().print(table)


def export(run_dir: Path, output: Path, step: int | None) -> None:
    """Export a checkpoint; raises ``UserError`` if it does not exist or cannot be expressed."""
    from convbert.pretrain.export import export_checkpoint

    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    written = export_checkpoint(RunDirectory(run_dir), output, step)
    print(f"{output}: step {written} in Hugging Face format")
