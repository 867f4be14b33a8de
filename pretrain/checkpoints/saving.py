"""Saving and restoring as all processes of a run do it together."""

import secrets
from pathlib import Path
from typing import Any

import torch.distributed as dist

from convbert.models.errors import UserError
from convbert.pretrain.checkpoints import checkpoint
from convbert.pretrain.checkpoints.checkpoint import CheckpointReader
from convbert.pretrain.checkpoints.state import fragments, restore, shapes
from convbert.pretrain.config import CheckpointConfig
from convbert.pretrain.training.engine import Engine


def _agree(value: Any) -> Any:
    """Return process 0's value on every process."""
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def _gather(value: Any) -> list[Any]:
    """Return every process's value, by rank, on every process."""
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


class Checkpointer:
    """Writes checkpoints of an engine and continues from the newest good one."""

    def __init__(self, root: Path, config: CheckpointConfig, engine: Engine) -> None:
        self.root = root
        self.config = config
        self.engine = engine
        self.rank = dist.get_rank()

    def due(self, step: int) -> bool:
        """Say whether a checkpoint belongs after ``step`` updates."""
        return step % self.config.every == 0

    def save(self, step: int, trainer: dict[str, Any]) -> None:
        """Write the checkpoint of ``step``; on failure no trace is left and all processes raise."""
        folder = self.root / _agree(f".tmp-{step:08d}-{secrets.token_hex(4)}")
        part: dict[str, Any] | str
        try:
            folder.mkdir(parents=True, exist_ok=True)
            part = checkpoint.write_fragments(folder, self.rank, fragments(self.engine))
        except OSError as error:
            part = f"rank {self.rank}: {error}"
        parts = _gather(part)
        problem = next((p for p in parts if isinstance(p, str)), None)
        if self.rank == 0 and problem is None:
            problem = self._commit(folder, step, parts, trainer)
        problem = _agree(problem)
        if problem is not None:
            if self.rank == 0:
                checkpoint.sweep(self.root)
            raise UserError(
                f"{checkpoint.directory(self.root, step)}: the checkpoint could not be written "
                f"({problem}); free space or permissions, then start the run again to continue "
                "from the previous checkpoint"
            )

    def _commit(
        self, folder: Path, step: int, parts: list[dict[str, Any]], trainer: dict[str, Any]
    ) -> str | None:
        final = checkpoint.directory(self.root, step)
        try:
            checkpoint.commit(folder, final, step, shapes(self.engine), parts, trainer)
            checkpoint.prune(self.root, self.config.keep_last, self.config.keep_every)
        except OSError as error:
            return str(error)
        return None

    def restore(self) -> dict[str, Any] | None:
        """Load the newest good checkpoint; return its trainer state, or None if there is none."""
        step: int | None = None
        if self.rank == 0:
            checkpoint.sweep(self.root)
            newest = checkpoint.latest_good(self.root, report=lambda text: print(text, flush=True))
            step = None if newest is None else newest.manifest.step
        step = _agree(step)
        if step is None:
            return None
        reader = CheckpointReader(checkpoint.directory(self.root, step))
        expected = shapes(self.engine)
        if reader.manifest.shapes != expected:
            raise UserError(
                f"{reader.folder}: holds another model than the configuration describes; use the "
                "configuration it was written with"
            )
        restore(self.engine, reader.read)
        return {"step": step, **reader.manifest.trainer}
