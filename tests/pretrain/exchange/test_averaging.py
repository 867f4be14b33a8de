"""Averages of checkpoints."""

import threading
from pathlib import Path

import pytest
import torch

from convbert.models.errors import UserError
from convbert.pretrain.checkpoints import writer
from convbert.pretrain.checkpoints.reader import CheckpointReader
from convbert.pretrain.checkpoints.snapshot import Snapshot
from convbert.pretrain.engine.fragments import Fragment
from convbert.pretrain.exchange.averaging import averaged, parse_average
from convbert.pretrain.run.checkpoint_manifest import checkpoint_directory
from convbert.pretrain.run.directory import RunDirectory

SHAPES = {"a.weight": (3, 2)}


def weights(step: int) -> torch.Tensor:
    return torch.randn(6, generator=torch.Generator().manual_seed(step))


def write(run: RunDirectory, step: int) -> None:
    folder = run.checkpoints / f".tmp-{step}"
    views = dict.fromkeys(("param", "exp_avg", "exp_avg_sq"), weights(step))
    held = [Fragment("a.weight", 0, 6, views, owned=True)]
    snapshot = Snapshot()
    snapshot.take(held)
    writer.write_part(folder, 0, snapshot)
    parts = writer.wait_for_parts(folder, 1, threading.Event())
    assert parts is not None
    writer.commit(folder, step, SHAPES, parts, {})


def test_mean_of_the_last_checkpoints_up_to_a_step(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    for step in (10, 20, 30, 40):
        write(run, step)
    reader = CheckpointReader(checkpoint_directory(run.checkpoints, 30))
    one = averaged(run, reader, 1)["a.weight"]
    assert torch.equal(one.flatten(), weights(30))
    expected = sum(weights(s).double() for s in (10, 20, 30)) / 3
    three = averaged(run, reader, 3)["a.weight"]
    assert three.dtype == torch.float32
    torch.testing.assert_close(three.flatten(), expected.float(), rtol=0, atol=0)
    with pytest.raises(UserError, match="3 checkpoints up to step 30, not the 4"):
        averaged(run, reader, 4)


def test_average_is_written_as_last_n() -> None:
    assert parse_average(None) == 1
    assert parse_average("last:5") == 5
    for text in ("5", "last:0", "ema:3", "last:x"):
        with pytest.raises(UserError, match="write last:N"):
            parse_average(text)
