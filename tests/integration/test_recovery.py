"""A run that is killed and started again must be the run that was never killed."""

import os
import signal
from pathlib import Path

import pytest
from forked import Zygote, kill_after, wait_for

from convbert.pretrain.run.checkpoint_manifest import checkpoint_directory, checkpoint_steps
from convbert.pretrain.run.exit_codes import FAILED

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("option", ["precision=fp32", "precision=bf16", "optimizer.name=muon"])
def test_killed_and_restarted_run_repeats_every_loss(
    zygote: Zygote, read_losses, tmp_path: Path, option: str
) -> None:
    zygote.finish(tmp_path / "whole", option)
    kill_after(zygote, tmp_path / "killed", 8, option)
    assert not checkpoint_directory(tmp_path / "killed" / "checkpoints", 12).exists()
    zygote.finish(tmp_path / "killed", option)

    whole, killed = read_losses(tmp_path / "whole"), read_losses(tmp_path / "killed")
    assert sorted(whole) == list(range(1, 13))
    assert killed == whole


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_continues_on_other_processes_stage_and_micro_batch(
    zygote: Zygote, read_losses, tmp_path: Path, optimizer: str
) -> None:
    same = ("micro_batch=2", f"optimizer.name={optimizer}")
    zygote.finish(tmp_path / "whole", *same)
    run = tmp_path / "elastic"
    kill_after(zygote, run, 4, *same, "deepspeed=zero1")
    kill_after(zygote, run, 8, *same, "deepspeed=zero3", processes=1)
    zygote.finish(run, *same, "deepspeed=zero1")

    whole, elastic = read_losses(tmp_path / "whole"), read_losses(run)
    assert sorted(elastic) == sorted(whole)
    for step in whole:
        assert elastic[step] == pytest.approx(whole[step], rel=1e-4)


def test_stop_signal_saves_and_the_same_command_continues(
    runner, read_losses, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = runner.start(run, "steps=4000", "checkpoint.every=4000")
    wait_for(lambda: (run / "metrics.jsonl").exists() and bool(read_losses(run)))
    os.killpg(process.pid, signal.SIGHUP)  # the terminal is closed
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75, output
    (saved,) = checkpoint_steps(run / "checkpoints")
    assert max(read_losses(run)) == saved < 4000


def test_lost_process_is_one_line_of_the_others(zygote: Zygote, tmp_path: Path) -> None:
    started = zygote.start(tmp_path, faults={"hang": {"on": 1, "step": 6}})
    wait_for(checkpoint_directory(tmp_path / "checkpoints", 4).exists)
    started.kill(1)
    assert started.wait() == [FAILED, -signal.SIGKILL]
    log = started.log.read_text()
    assert "rank 0 ERROR the connection to another process is lost (" in log
    assert "Traceback" not in log
