"""Jobs on a real scheduler: arrays, bad nodes, crashes, and how a person ends them."""

import json
import sqlite3
import stat
import sys
from pathlib import Path

import pytest
import yaml

from convbert.cluster.records import JobRecords
from convbert.cluster.site import load_site

from .conftest import Slurm, attempts, last_step, log

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]

HOSTILE = 'it\'s a "$(touch injected)" `id`;\n& run'


def test_array_trains_three_recipes_whatever_their_names(slurm: Slurm, tmp_path: Path) -> None:
    sweep = {
        "plain": {"seed": 1},
        HOSTILE: {"seed": 2},
        "longer": {"optimizer.learning_rate": 0.002, "steps": 14},
    }
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(sweep))
    root = tmp_path / "root $(touch injected)"
    options = ["--array", str(file), "--run-dir", str(root), "--time", "10:00", "--no-preflight"]
    slurm.convbert("submit", "tiny", *slurm.settings, "steps=10", *options, cwd=tmp_path)
    for name in sweep:
        job = JobRecords(root / name).submissions()[-1].job
        assert slurm.wait_for_end(job, root) == "COMPLETED", log(root)
    assert [last_step(root / name) for name in sweep] == [10, 10, 14]
    assert not list(tmp_path.rglob("injected"))
    shown = slurm.convbert("status", *(str(root / name) for name in sweep))
    assert shown.count("finish") == 3


def broken_on(node: str, folder: Path) -> Path:
    """Return an interpreter that works in steps on all nodes but one, and in job scripts."""
    script = folder / "python"
    script.write_text(
        f'#!/bin/sh\n[ -n "$SLURM_STEP_ID" ] && [ "$SLURMD_NODENAME" = {node} ] && exit 1\n'
        f'exec {sys.executable} "$@"\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


def site_file(folder: Path, **changes: object) -> str:
    """Write the local profile with changes."""
    path = folder / "site.yaml"
    content = load_site("local").model_dump(mode="json") | changes
    content["preflight"]["seconds"] = 30
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.mark.parametrize("node", ["node0", "node1"])  # the first of them runs process 0
def test_bad_node_is_named_and_left_out(slurm: Slurm, tmp_path: Path, node: str) -> None:
    run = tmp_path / "run"
    site = site_file(tmp_path, python=str(broken_on(node, tmp_path)))
    options = ["--nodes", "2", "--on-bad-node", "continue", "--site", site]
    job = slurm.submit(run, "steps=8", "--time", "10:00", *options)
    assert slurm.wait_for_end(job, run) == "COMPLETED", log(run)
    assert f"preflight: {node}: its process ended with status 1 before it could" in log(run)
    assert "going on with 1 nodes" in log(run)
    assert last_step(run) == 8
    assert list(JobRecords(run).excluded()) == [node]


def test_crash_is_tried_again_n_times_without_the_bad_node(slurm: Slurm, tmp_path: Path) -> None:
    run = tmp_path / "run"
    # DeepSpeed refuses this accelerator when the training starts; preflight does not need it.
    site = site_file(
        tmp_path,
        python=str(broken_on("node1", tmp_path)),
        environment={"DS_ACCELERATOR": "nonsense"},
    )
    options = ["--nodes", "2", "--retries", "1", "--site", site]
    job = slurm.submit(run, "steps=8", "--time", "10:00", *options)
    assert slurm.wait_for_end(job, run) == "FAILED", log(run)
    first, second = attempts(run)
    assert (first.outcome, first.failed_nodes) == ("bad node", ["node1"])
    assert (second.outcome, second.nodes) == ("crashed", ["node0", "node2"])
    assert slurm.job(job)["Restarts"] == "1"
    assert "2 attempts without a new checkpoint (bad node, crashed)" in log(run)
    assert "crashed" in slurm.convbert("status", str(run))


def mlflow_status(slurm: Slurm, run: Path, database: Path) -> list[str]:
    """Return how MLflow says the runs ended, once it has had the time to hear of it."""
    assert json.loads((run / "mlflow.json").read_text())["status"] == "KILLED"
    slurm.convbert("track", "sync", str(run))
    with sqlite3.connect(database) as connection:
        return [row[0] for row in connection.execute("select status from runs")]


def test_stop_and_scancel_end_cleanly(slurm: Slurm, tmp_path: Path) -> None:
    run = tmp_path / "run"
    database = tmp_path / "mlflow.db"
    settings = ["steps=5000", "checkpoint.every=5000", f"tracking.uri=sqlite:///{database}"]
    options = ["--time", "10:00", "--no-preflight"]
    job = slurm.submit(run, *settings, *options)
    slurm.wait("it trains", lambda: last_step(run) > 2, run, job)
    slurm.convbert("stop", str(run))
    assert slurm.wait_for_end(job, run) == "FAILED", log(run)
    (attempt,) = attempts(run)
    assert (attempt.outcome, attempt.code, attempt.end_step) == ("stopped", 75, last_step(run))
    assert mlflow_status(slurm, run, database) == ["KILLED"]

    before = last_step(run)
    job = slurm.submit(run, *settings, *options)
    slurm.wait("it goes on", lambda: last_step(run) > before, run, job)
    assert "running" in slurm.convbert("status", str(run))
    slurm.run("scancel", job)
    assert slurm.wait_for_end(job, run) == "CANCELLED"
    slurm.wait("its end is noted", lambda: attempts(run)[-1].ended, run, job)
    assert (attempts(run)[-1].outcome, attempts(run)[-1].end_step) == ("cancelled", last_step(run))
    assert mlflow_status(slurm, run, database) == ["KILLED"]
    assert "cancelled" in slurm.convbert("status", str(run))
