"""A run that loses a node, is preempted and meets its time limit is the run that met nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from convbert.cluster.records import JobRecords
from tests.slurm_local import daemons

from .conftest import Slurm, attempts, last_step, log

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]

SECONDS = 45.0  # that an undisturbed run should train: SLURM looks at time limits twice a minute


def losses(run: Path) -> dict[int, tuple[float, float]]:
    """Return loss and gradient norm by step."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    records = [line for line in lines if "step" in line]
    keys = ("loss/total", "optimizer/gradient_norm")
    return {r["step"]: tuple(r["values"][k] for k in keys) for r in records}  # type: ignore[misc]


def undisturbed(slurm: Slurm, run: Path, *settings: str) -> None:
    """Train on two processes of this machine, without SLURM."""
    command = [sys.executable, "-m", "convbert.pretrain.cli", "pretrain", "tiny", *slurm.settings]
    command += [*settings, "--run-dir", str(run), "--processes", "2"]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ})


def steps_for(slurm: Slurm, folder: Path) -> int:
    """Return how many updates take long enough on this machine, as busy as it is now."""
    undisturbed(slurm, folder, "steps=30")
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    paces = sorted(r["values"]["speed/step_seconds"] for r in records if "step" in r)
    return max(60, round(SECONDS / paces[len(paces) // 2] / 20) * 20)


def test_survives_node_failure_preemption_and_time_limit(slurm: Slurm, tmp_path: Path) -> None:
    steps = steps_for(slurm, tmp_path / "pace")
    settings = [f"steps={steps}", f"checkpoint.every={steps // 10}"]
    run = tmp_path / "run"
    records = JobRecords(run)
    job = slurm.submit(run, *settings, "--nodes", "2", "--time", "20:00", "--retries", "3")

    slurm.wait("a checkpoint", lambda: records.run.last_step() > 0, run, job)
    assert attempts(run)[0].nodes == ["node0", "node1"]
    daemons.kill_node(slurm.cluster.state, "node1")
    slurm.wait("the second attempt", lambda: len(attempts(run)) == 2, run, job)
    lost, second = attempts(run)
    assert lost.outcome in ("lost", "crashed")
    assert len(records.submissions()) == 1  # SLURM puts the job back itself, nothing follows it
    assert second.nodes == ["node0", "node2"]
    assert second.step == lost.step + steps // 10 or second.step > 0

    # Of the steps of this attempt: the file still holds those that the lost one made in vain.
    slurm.wait("it goes on", lambda: last_step(run, second.begun) > second.step + 2, run, job)
    options = ["-p", "urgent", "-N2", "-c4", "--output=/dev/null", "--wrap", "sleep 1"]
    urgent = slurm.run("sbatch", "--parsable", *options)
    slurm.wait("the third attempt", lambda: len(attempts(run)) == 3, run, job)
    preempted, third = attempts(run)[1:]
    assert (preempted.outcome, preempted.code) == ("saved", 75)
    assert third.step == preempted.end_step > second.step
    assert slurm.state(urgent.strip()) == "COMPLETED"

    slurm.wait("it goes on", lambda: last_step(run, third.begun) > third.step + 2, run, job)
    minutes = int(slurm.job(job)["RunTime"].split(":")[1]) + 2
    slurm.run("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}")
    slurm.wait("the fourth attempt", lambda: len(attempts(run)) == 4, run, job)
    limited, fourth = attempts(run)[2:]
    assert (limited.outcome, limited.code) == ("saved", 75), log(run)
    assert steps > fourth.step == limited.end_step > third.step

    daemons.start_node(slurm.cluster, "node1")
    slurm.run("scontrol", "update", f"JobId={job}", "TimeLimit=20")
    assert slurm.wait_for_end(job, run) == "COMPLETED", log(run)
    undisturbed(slurm, tmp_path / "undisturbed", *settings)
    assert sorted(losses(run)) == list(range(1, steps + 1))
    assert losses(run) == losses(tmp_path / "undisturbed")
