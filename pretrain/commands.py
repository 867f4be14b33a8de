"""What the commands of the command line do, as functions."""

import sys
from pathlib import Path

from convbert.pretrain.checkpoints import upload
from convbert.pretrain.run.checkpoint_manifest import checkpoint_directory
from convbert.pretrain.run.exit_codes import STOPPED
from convbert.pretrain.run.preparation import prepare


def _default_processes() -> int:
    import torch

    return max(1, torch.cuda.device_count())


def pretrain(recipe: str, overrides: list[str], run_dir: Path | None, processes: int | None) -> int:
    """Prepare the run directory, check the inputs and launch; return the exit code."""
    from convbert.pretrain.training.launch import launch

    world = processes or _default_processes()
    run, config = prepare(recipe, overrides, run_dir, world)
    path = run.path
    if checkpoint_directory(run.checkpoints, config.steps).is_dir():
        upload.complete(run.checkpoints, config.checkpoint)
        print(
            f"{path}: has finished its {config.steps:,} updates; raise steps to go on "
            "(docs/recovery.md says what becomes of the learning rate)"
        )
        return 0
    code = launch(path, world, config.threads)
    if code == STOPPED:
        print(f"stopped with a checkpoint; the same command continues {path}", file=sys.stderr)
    return code
