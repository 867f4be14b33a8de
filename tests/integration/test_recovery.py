"""A run that is killed and started again must be the run that was never killed."""

import os
import signal
import time
from pathlib import Path

import pytest

from convbert.pretrain.run.checkpoint_manifest import checkpoint_directory, checkpoint_steps

pytestmark = pytest.mark.integration


def wait_for(path: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def kill_workers(group: int) -> None:
    """Send SIGKILL to the whole process group, as a node failure does."""
    os.killpg(group, signal.SIGKILL)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_killed_and_restarted_run_repeats_every_loss(
    runner, read_losses, tmp_path: Path, precision: str
) -> None:
    option = f"precision={precision}"
    runner.finish(tmp_path / "whole", option)
    process = runner.start(tmp_path / "killed", option)
    wait_for(checkpoint_directory(tmp_path / "killed" / "checkpoints", 8))
    kill_workers(process.pid)
    process.wait()
    assert not checkpoint_directory(tmp_path / "killed" / "checkpoints", 12).exists()
    runner.finish(tmp_path / "killed", option)

    whole, killed = read_losses(tmp_path / "whole"), read_losses(tmp_path / "killed")
    assert sorted(whole) == list(range(1, 13))
    assert killed == whole


def test_continues_on_other_processes_stage_and_micro_batch(
    runner, read_losses, tmp_path: Path
) -> None:
    common = ("precision=fp32", "micro_batch=2")
    runner.finish(tmp_path / "whole", *common)
    run = tmp_path / "elastic"
    process = runner.start(run, *common, "deepspeed=zero1")
    wait_for(checkpoint_directory(run / "checkpoints", 4))
    kill_workers(process.pid)
    process.wait()
    runner.finish(run, *common, "deepspeed=zero3", processes=1)

    whole, elastic = read_losses(tmp_path / "whole"), read_losses(run)
    assert sorted(elastic) == sorted(whole)
    for step in whole:
        assert elastic[step] == pytest.approx(whole[step], rel=1e-4)


def test_stop_signal_saves_and_the_same_command_continues(
    runner, read_losses, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = runner.start(run, "steps=4000", "checkpoint.every=4000")
    wait_for(run / "metrics.jsonl")
    while not read_losses(run):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75, output
    (saved,) = checkpoint_steps(run / "checkpoints")
    assert max(read_losses(run)) == saved < 4000
