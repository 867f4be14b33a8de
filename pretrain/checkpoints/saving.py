"""Saving and restoring, as all processes of a run do it together.

One checkpoint, from beginning to end: ``Checkpointer.save`` copies the state to host memory
(``snapshot``), the only moment for which training waits. A thread (``background``) writes the copy
and process 0 commits it (``writer``), has it uploaded (``upload``) and deletes old ones
(``retention``). ``Checkpointer.restore`` verifies and loads the newest one (``reader``). A failure
to write reaches the training thread, where all processes learn of it and act alike.
"""

import logging
import secrets
import shutil
import threading
from pathlib import Path
from typing import Any

import torch.distributed as dist

from convbert.models.errors import UserError
from convbert.pretrain.checkpoints import retention, writer
from convbert.pretrain.checkpoints.background import BackgroundWrite
from convbert.pretrain.checkpoints.reader import CheckpointReader, latest_good
from convbert.pretrain.checkpoints.retention import Retention
from convbert.pretrain.checkpoints.snapshot import Snapshot
from convbert.pretrain.checkpoints.upload import Uploader, download_newest
from convbert.pretrain.engine.collectives import broadcast_from_first, gather_objects
from convbert.pretrain.engine.engine import Engine
from convbert.pretrain.engine.fragments import fragments, restore, shapes
from convbert.pretrain.run.checkpoint_manifest import checkpoint_directory, checkpoint_steps
from convbert.pretrain.run.identity import identity, require_same_run
from convbert.pretrain.settings.run import RunConfig

logger = logging.getLogger(__name__)
_COLLECTIVE_SECONDS = 600.0  # what NCCL waits where guards.hang_seconds sets nothing

WHEN_NOT_WRITTEN = (
    "free space, mend permissions or, where values are not finite, lower optimizer.learning_rate; "
    "then start the run again to continue from the previous checkpoint"
)


class Checkpointer:
    """Writes checkpoints of an engine and continues from the newest good one."""

    def __init__(self, root: Path, run: RunConfig, engine: Engine) -> None:
        """Keep the checkpoints in ``root``; ``run`` is the configuration in the run directory."""
        self.root = root
        self.config = config = run.checkpoint
        self._run = run
        self.engine = engine
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        # So that nothing an earlier start left half-written is taken for this one's.
        self._token = broadcast_from_first(secrets.token_hex(4))
        self._retention = Retention(root, config)
        self._snapshot = Snapshot()
        self._writing: BackgroundWrite | None = None
        self._damaged: list[int] = []
        self._uploader: Uploader | None = None
        if config.upload is not None and self.rank == 0:
            self._uploader = Uploader(root, config.upload)

    def due(self, step: int) -> bool:
        """Return whether a checkpoint belongs after ``step`` updates."""
        return step % self.config.every == 0

    def save(self, step: int, trainer: dict[str, Any]) -> str | None:
        """Copy the state after ``step`` updates and start to write it.

        Waits for the checkpoint before this one and returns why that failed, if it did.
        """
        problem = self.settle()
        self._snapshot.take(fragments(self.engine))
        shaped = shapes(self.engine)
        state = trainer | {
            "updates": self.engine.updates,
            "loss_scale": self.engine.loss_scale.state(),
            "settings": identity(self._run),
        }

        def write(cancelled: threading.Event) -> None:
            folder = self._folder(step)
            writer.write_part(folder, self.rank, self._snapshot)
            if self.rank == 0:
                parts = writer.wait_for_parts(folder, self.world, cancelled)
                if parts is not None:
                    writer.commit(folder, step, shaped, parts, state)
                    self._committed(step)

        self._writing = BackgroundWrite(step, write)
        return problem

    def _folder(self, step: int) -> Path:
        return self.root / f".tmp-{step:08d}-{self._token}"

    def _committed(self, step: int) -> None:
        waiting: list[int] = []
        if self._uploader is not None:
            self._uploader.submit(step)
            # Bounded: a target that stays away must not fill the disk.
            waiting = self._uploader.waiting()[-self.config.keep_last :]
        self._retention.prune(waiting)

    @property
    def failed(self) -> bool:
        """Return whether this process failed to write; ``settle`` tells the others."""
        return self._writing is not None and self._writing.problem is not None

    def settle(self) -> str | None:
        """Wait, together, for the checkpoint being written; return why it failed, if it did."""
        writing, self._writing = self._writing, None
        if writing is None:
            return None
        if self.rank != 0:
            writing.join()
        # Process 0 cannot join yet: it may wait for a part that will never come.
        problems = gather_objects(writing.problem if self.rank else None)
        others = [p for p in problems if p is not None]
        if others:
            writing.cancel()
        writing.join()
        own = broadcast_from_first(writing.problem)
        problem = others[0] if others else own
        if problem is None:
            return None
        if self.rank == 0:
            shutil.rmtree(self._folder(writing.step), ignore_errors=True)
        final = checkpoint_directory(self.root, writing.step)
        return f"{final}: the checkpoint could not be written ({problem})"

    def finish(self) -> None:
        """Wait, together, until the last checkpoint is on the disk and the uploads are done.

        Raises ``UserError`` if it could not be written. Uploads that take too long are left to the
        next start. No process leaves before process 0 has uploaded, because launchers end the
        remaining processes soon after the first one has left.
        """
        problem = self.settle()
        if problem is not None:
            raise UserError(f"{problem}; {WHEN_NOT_WRITTEN}")
        if self._uploader is not None:
            # Not so long that the collective in which the others wait, or the watchdog, ends it.
            longest = (self._run.guards.hang_seconds or _COLLECTIVE_SECONDS) / 2
            self._uploader.finish(min(self.config.upload_patience, longest))
        broadcast_from_first(None)

    def restore(self) -> dict[str, Any] | None:
        """Load the newest good checkpoint; return its trainer state, or None if there is none.

        Damaged ones, which are newer, are renamed. Raises ``UserError`` if there are checkpoints
        but none can be used.
        """
        self.settle()
        newest = self._newest() if self.rank == 0 else None
        step = broadcast_from_first(None if newest is None else newest.manifest.step)
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
            logger.warning("%s: a damaged checkpoint, kept under this name", aside)
        return {"step": step, **state}

    def _newest(self) -> CheckpointReader | None:
        retention.sweep(self.root)
        if self.config.upload is not None and not checkpoint_steps(self.root):
            download_newest(self.config.upload, self.root, self._run)
        newest = latest_good(self.root)
        if newest is not None:
            require_same_run(str(newest.folder), newest.manifest, self._run, self.root)
        good = -1 if newest is None else newest.manifest.step
        self._damaged = [step for step in checkpoint_steps(self.root) if step > good]
        return newest

    def take_damaged(self) -> list[int]:
        """Return the steps whose checkpoints ``restore`` found damaged, once and on process 0."""
        damaged, self._damaged = self._damaged, []
        return damaged
