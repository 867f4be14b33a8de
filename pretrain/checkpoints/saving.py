"""Saving and restoring as all processes of a run do it together.

Training waits only while the state is copied to host memory. A thread writes the copy; a failure is
seen by the training thread, agreed upon between the processes and handled there.
"""

import secrets
import shutil
from pathlib import Path
from typing import Any

import torch.distributed as dist

from convbert.models.errors import UserError
from convbert.pretrain.checkpoints import checkpoint, retention
from convbert.pretrain.checkpoints.background import Writing, write_share
from convbert.pretrain.checkpoints.checkpoint import CheckpointReader
from convbert.pretrain.checkpoints.retention import Retention
from convbert.pretrain.checkpoints.snapshot import Snapshot
from convbert.pretrain.checkpoints.upload import Uploader, download_newest
from convbert.pretrain.engine.engine import Engine
from convbert.pretrain.engine.fragments import fragments, restore, shapes
from convbert.pretrain.run.checkpoint_manifest import checkpoint_directory, checkpoint_steps
from convbert.pretrain.run.identity import identity
from convbert.pretrain.settings.run import RunConfig

_COLLECTIVE_SECONDS = 600.0  # what NCCL waits where guards.hang_seconds sets nothing


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


def _say(text: str) -> None:
    print(text, flush=True)


class Checkpointer:
    """Writes checkpoints of an engine and continues from the newest good one.

    ``root`` is a folder of the run directory, ``run`` its configuration as it stands there.
    """

    def __init__(self, root: Path, run: RunConfig, engine: Engine) -> None:
        self.root = root
        self.config = config = run.checkpoint
        self._run = run
        self.engine = engine
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        # What a former start of the run left half-written can never be taken for this one's.
        self._token = _agree(secrets.token_hex(4))
        self._retention = Retention(root, config)
        self._snapshot = Snapshot()
        self._writing: Writing | None = None
        self._damaged: list[int] = []
        self._uploader: Uploader | None = None
        if config.upload is not None and self.rank == 0:
            self._uploader = Uploader(root, config.upload)

    def due(self, step: int) -> bool:
        """Say whether a checkpoint belongs after ``step`` updates."""
        return step % self.config.every == 0

    def save(self, step: int, trainer: dict[str, Any]) -> str | None:
        """Copy the state after ``step`` updates and start to write it.

        Waits for the checkpoint before this one and returns why that failed, if it did.
        """
        problem = self.settle()
        listed = self._snapshot.take(fragments(self.engine))
        state = trainer | {
            "updates": self.engine.updates,
            "loss_scale": self.engine.loss_scale.state(),
            "settings": identity(self._run),
        }
        shaped = shapes(self.engine)

        def work(writing: Writing) -> None:
            write_share(
                writing,
                self._folder(step),
                self.rank,
                self.world,
                self._snapshot,
                listed,
                shaped,
                state,
            )
            if self.rank == 0:
                self._committed(step)

        self._writing = Writing(step, work)
        return problem

    def _folder(self, step: int) -> Path:
        return self.root / f".tmp-{step:08d}-{self._token}"

    def _committed(self, step: int) -> None:
        waiting: list[int] = []
        if self._uploader is not None:
            self._uploader.submit(step)
            # Not without bound: a target that stays away must not fill the disk.
            waiting = self._uploader.waiting()[-self.config.keep_last :]
        self._retention.prune(waiting)

    @property
    def failed(self) -> bool:
        """Say whether this process knows that its writing failed; to be agreed upon by all."""
        return self._writing is not None and self._writing.problem is not None

    def settle(self) -> str | None:
        """Wait for the checkpoint under way, together; return why it failed, on every process."""
        writing, self._writing = self._writing, None
        if writing is None:
            return None
        if self.rank != 0:
            writing.join()
        # Process 0 cannot join yet: it may wait for a part that will never come.
        others = [p for p in _gather(writing.problem if self.rank else None) if p is not None]
        if others:
            writing.cancel()
        writing.join()
        own = _agree(writing.problem)
        problem = others[0] if others else own
        if problem is None:
            return None
        if self.rank == 0:
            shutil.rmtree(self._folder(writing.step), ignore_errors=True)
        final = checkpoint_directory(self.root, writing.step)
        return f"{final}: the checkpoint could not be written ({problem})"

    def finish(self) -> None:
        """Wait until the last checkpoint is on the disk and uploads are through, together.

        Raises ``UserError`` if it could not be written; uploads that take too long are left for
        the next start. No process leaves before process 0 has uploaded: launchers soon end a
        process that is left alone.
        """
        problem = self.settle()
        if problem is not None:
            raise UserError(
                f"{problem}; free space or permissions, then start the run again to continue from "
                "the previous checkpoint"
            )
        if self._uploader is not None:
            # The others wait in a collective meanwhile, and the watchdog looks on.
            longest = (self._run.guards.hang_seconds or _COLLECTIVE_SECONDS) / 2
            self._uploader.finish(min(self.config.upload_patience, longest))
        _agree(None)

    def restore(self) -> dict[str, Any] | None:
        """Load the newest good checkpoint; return its trainer state, or None if there is none.

        Newer ones, which are damaged, are set aside. Raises ``UserError`` where there are
        checkpoints but none can be used.
        """
        self.settle()
        newest: CheckpointReader | None = None
        if self.rank == 0:
            newest = self._newest()
        step = _agree(None if newest is None else newest.manifest.step)
        if step is None:
            return None
        folder = checkpoint_directory(self.root, step)
        reader = newest or CheckpointReader(folder, trusted=True)
        if reader.manifest.shapes != shapes(self.engine):
            raise UserError(
                f"{reader.folder}: holds another model than the configuration describes; use the "
                "configuration it was written with"
            )
        restore(self.engine, reader.read)
        state = reader.manifest.trainer
        self.engine.updates = int(state["updates"])
        self.engine.loss_scale.load(state["loss_scale"])
        for damaged in self._damaged:
            aside = retention.set_aside(checkpoint_directory(self.root, damaged))
            _say(f"{aside}: a damaged checkpoint, kept under this name")
        return {"step": step, **state}

    def _newest(self) -> CheckpointReader | None:
        retention.sweep(self.root)
        if self.config.upload is not None and not checkpoint_steps(self.root):
            download_newest(self.config.upload, self.root, self._run, report=_say)
        newest = checkpoint.latest_good(self.root, report=_say)
        good = -1 if newest is None else newest.manifest.step
        self._damaged = [step for step in checkpoint_steps(self.root) if step > good]
        return newest

    def take_damaged(self) -> list[int]:
        """Return, once, the steps whose checkpoints ``restore`` found damaged, on process 0."""
        damaged, self._damaged = self._damaged, []
        return damaged
