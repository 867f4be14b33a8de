"""A process that dies at any line of the checkpoint code leaves a checkpoint to continue from."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import pytest
import torch

from convbert.data_pipeline import atomic
from convbert.pretrain.checkpoints import retention, snapshot, tensor_file, writer
from convbert.pretrain.checkpoints.reader import CheckpointReader, latest_good
from convbert.pretrain.checkpoints.retention import Retention
from convbert.pretrain.checkpoints.snapshot import Snapshot
from convbert.pretrain.engine.fragments import Fragment
from convbert.pretrain.run.checkpoint_manifest import checkpoint_directory, checkpoint_steps
from convbert.pretrain.settings.checkpoint import CheckpointConfig

SHAPES = {"weight": (7, 5)}
CODE = {m.__file__ for m in (atomic, writer, retention, snapshot, tensor_file)}
CONFIG = CheckpointConfig(keep_last=2)


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory in memory where there is one: hundreds of syncs to a disk take minutes."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def save(root: Path, step: int) -> None:
    """Save as the writing thread of a process does, from the snapshot to the deletion of old ones.

    The parameter holds the step, so a reader can tell a mixture.
    """
    folder = root / f".tmp-{step:08d}-{os.getpid():08d}"
    value = torch.full((35,), float(step))
    fragment = Fragment(
        "weight", 0, 35, {"param": value, "exp_avg": value, "exp_avg_sq": value}, owned=True
    )
    taken = Snapshot()
    taken.take([fragment])
    writer.write_part(folder, 0, taken)
    parts = writer.wait_for_parts(folder, 1, threading.Event())
    assert parts is not None
    trainer = {"n": step, "metrics": {}}
    writer.commit(folder, step, SHAPES, parts, trainer)
    Retention(root, CONFIG).prune()


def dies_at(line: int, work: Callable[[], None]) -> bool:
    """Do the work in a child that kills itself before ``line``; return whether it got there."""
    pid = os.fork()
    if pid == 0:
        left = [line]

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            if frame.f_code.co_filename not in CODE:
                return None
            if event == "line":
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        try:
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def usable(root: Path, steps: list[int], caplog: pytest.LogCaptureFixture) -> None:
    reader = latest_good(root)
    assert not caplog.messages  # nothing is damaged
    assert reader is not None
    assert reader.manifest.step in steps
    assert torch.equal(reader.parameters()["weight"], torch.full((7, 5), reader.manifest.step))


def test_a_kill_before_any_line_leaves_a_usable_checkpoint(root: Path, caplog) -> None:
    line = 1
    for step in (1, 2):
        save(root, step)
    while dies_at(line, partial(save, root, step + 1)):
        usable(root, [step, step + 1], caplog)
        # The next start cleans up and goes on from there.
        retention.sweep(root)
        assert all(not p.name.startswith(".") for p in root.iterdir())
        assert len(checkpoint_steps(root)) >= 2
        Retention(root, CONFIG).prune()
        step = checkpoint_steps(root)[-1]
        line += 1
    assert line > 100  # the code was traced
    assert checkpoint_steps(root) == [step, step + 1]


@pytest.mark.slow
def test_a_kill_while_a_damaged_one_is_replaced(root: Path, caplog) -> None:
    save(root, 1)
    line = 1
    while True:
        save(root, 2)
        damaged = checkpoint_directory(root, 2) / "state-00000.safetensors"
        damaged.write_bytes(damaged.read_bytes()[:-1])
        if not dies_at(line, lambda: save(root, 2)):
            break
        caplog.clear()
        reader = latest_good(root)
        assert reader is not None
        assert reader.manifest.step == 1 or not caplog.messages
        retention.sweep(root)
        line += 3
    assert CheckpointReader(checkpoint_directory(root, 2)).manifest.step == 2
