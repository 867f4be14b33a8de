"""Clusters that are unlike others: slow nodes, empty environments, no requeueing; and stops."""

import os
import stat
import sys
from pathlib import Path

import pytest
import yaml

from convbert.cluster.records import JobRecords
from tests.slurm_local import daemons

from .conftest import Slurm, attempts, last_step, log
from .test_jobs import site_file

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]

LATE = 20.0  # seconds; more than the check itself may take


def late_on(node: str, folder: Path) -> Path:
    """Return an interpreter that starts late in the first step of one node."""
    script = folder / "python"
    script.write_text(
        f'#!/bin/sh\n[ -n "$SLURM_STEP_ID" ] && [ "$SLURMD_NODENAME" = {node} ] '
        f"&& mkdir {folder}/late 2>&- && sleep {LATE}\n"
        f'exec {sys.executable} "$@"\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


def test_slow_node_trains_and_a_job_that_is_not_requeued_gets_a_successor(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a cluster where jobs start with an empty environment.
    monkeypatch.setitem(slurm.environment, "SBATCH_EXPORT", "NONE")
    path = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
    site = site_file(
        tmp_path,
        python=str(late_on("node1", tmp_path)),
        environment={"OMP_NUM_THREADS": "1", **path},
        preflight={"seconds": int(LATE), "slow_factor": 0.01, "min_disk_gib": 0.1},
    )
    run = tmp_path / "run"
    options = ["--nodes", "2", "--site", site, "--time", "20:00"]
    settings = ["steps=3000", "checkpoint.every=3000"]
    job = slurm.submit(run, *settings, *options)
    slurm.run("scontrol", "update", f"JobId={job}", "Requeue=0")
    refused = slurm.refusal("submit", "tiny", *slurm.settings, *settings, "--run-dir", str(run))
    assert f"has a job already: {job} (" in refused
    slurm.wait("it trains", lambda: last_step(run) > 2, run, job)
    assert JobRecords(run).excluded() == {}
    assert "step " in slurm.convbert("logs", str(run))

    slurm.run("scancel", "--batch", "--signal=USR1", job)
    slurm.wait("the successor", lambda: len(JobRecords(run).submissions()) == 2, run, job)
    successor = JobRecords(run).submissions()[-1].job
    assert "SLURM refused to requeue this job (" in log(run)
    slurm.wait("its attempt", lambda: len(attempts(run)) == 2, run, successor)
    first, second = attempts(run)
    assert (first.outcome, first.successor, second.job) == ("saved", successor, successor)
    assert second.step == first.end_step > 0
    slurm.wait("it goes on", lambda: last_step(run, second.begun) > second.step, run, successor)
    slurm.convbert("stop", str(run))
    assert slurm.wait_for_end(successor, run) == "FAILED", log(run)
    assert attempts(run)[-1].outcome == "stopped"
    assert len(JobRecords(run).submissions()) == 2


def deaf(folder: Path) -> Path:
    """Return an interpreter whose training does nothing and notices nothing.

    In the first attempt it makes the file ``trains-0``, in the second ``trains-1``.
    """
    script = folder / "python"
    script.write_text(
        f"#!/bin/sh\nmark={folder}/trains-${{SLURM_RESTART_COUNT:-0}}\n"
        'case "$*" in *training.worker*) touch "$mark"; exec sleep 900;; esac\n'
        f'exec {sys.executable} "$@"\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


def test_killed_node_is_not_called_cancelled_and_a_cancelled_job_is(
    slurm: Slurm, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    site = site_file(tmp_path, python=str(deaf(tmp_path)))
    options = ["--nodes", "2", "--no-preflight", "--site", site, "--time", "20:00"]
    job = slurm.submit(run, "steps=8", *options)
    slurm.wait("it trains", (tmp_path / "trains-0").exists, run, job)
    daemons.kill_node(slurm.cluster.state, "node1")
    try:
        slurm.wait("SLURM starts it again", (tmp_path / "trains-1").exists, run, job)
        first, second = attempts(run)
        assert (first.outcome, first.failed_nodes) == ("lost", ["node1"])
        assert second.nodes == ["node0", "node2"]
        assert "lost by node failure; SLURM puts it back into the queue" in log(run)
        slurm.run("scancel", job)
        slurm.wait("its end is noted", lambda: attempts(run)[-1].ended, run, job)
        assert attempts(run)[-1].outcome == "cancelled"
        assert slurm.wait_for_end(job, run) == "CANCELLED"
    finally:
        daemons.start_node(slurm.cluster, "node1")


def test_corpus_that_was_stopped_stays_so(slurm: Slurm, tmp_path: Path, corpus: Path) -> None:
    config, out = tmp_path / "corpus.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump({"inputs": [str(corpus)], "tokenizer": {"vocab_size": 600}}))
    slurm.convbert("corpus", "submit", str(config), "-o", str(out), cwd=corpus.parent)
    job = JobRecords(out).submissions()[-1].job
    slurm.wait("it runs", lambda: list(out.glob("slurm/dask-*.json")), out, job)
    assert f"job {job}: saves" in slurm.convbert("stop", str(out))
    assert slurm.wait_for_end(job, out) == "FAILED", log(out)
    assert slurm.job(job)["Restarts"] == "0"
    assert "stopped on request" in log(out)
    assert "stopped on request" in slurm.convbert("status", str(out))
