"""The first use of a SQLite store: by several runs at once, cut off, or of a broken file."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from convbert.models.errors import DamagedError
from convbert.pretrain.tracking.mlflow_store import open_store
from convbert.pretrain.tracking.stopped_run import sync
from convbert.pretrain.tracking.tracker import open_tracker

RUN = """
import sys
from pathlib import Path
from convbert.pretrain.tracking.tracker import open_tracker
tracker = open_tracker(
    Path(sys.argv[1]), enabled=True, experiment="together", run_name=sys.argv[1],
    tracking_uri=sys.argv[2], params={"seed": 0}, tags={}, resume_step=None,
)
for step in range(1, 4):
    tracker.log(step, step * 1e12, {"loss": 1 / step})
tracker.close("FINISHED")
"""
MAKE = """
import sys
from convbert.pretrain.tracking.mlflow_store import open_store
print("imports", flush=True)
open_store(sys.argv[1])
"""


@pytest.mark.slow
def test_runs_that_start_together_on_a_fresh_store_are_all_in_it(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", RUN, str(tmp_path / name), uri],
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b", "c", "d")
    ]
    for process in started:
        _, errors = process.communicate(timeout=500)
        assert process.returncode == 0, errors
        assert "MLflow" not in errors
    client = MlflowClient(uri)
    (experiment,) = client.search_experiments(filter_string="name = 'together'")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 4
    for run in runs:
        history = client.get_metric_history(run.info.run_id, "loss")
        assert [m.step for m in history] == [1, 2, 3]
    assert not list(tmp_path.glob(".*.tmp*"))


@pytest.mark.slow
def test_a_store_whose_creation_is_killed_is_made_by_the_next_run(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    uri = f"sqlite:///{database}"
    process = subprocess.Popen([sys.executable, "-c", MAKE, uri])
    while process.poll() is None and not list(tmp_path.glob(".*.tmp")):
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not database.exists()
    open_store(uri)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == ["mlflow.db"]


@pytest.mark.parametrize("broken", ["another kind of file", "a creation that was cut off"])
def test_the_advice_for_a_broken_store_works(tmp_path: Path, broken: str) -> None:
    database, run = tmp_path / "mlflow.db", tmp_path / "run"
    if broken == "another kind of file":
        database.write_bytes(b"not a database" * 100)
    else:  # the first of MLflow's tables, half
        with contextlib.closing(sqlite3.connect(database)) as opened:
            opened.execute("CREATE TABLE experiments (experiment_id INTEGER NOT NULL)")
    uri = f"sqlite:///{database}"
    tracker = open_tracker(
        run, enabled=True, experiment="e", run_name="run", tracking_uri=uri, params={}, tags={},
        resume_step=None,
    )  # fmt: skip
    tracker.log(1, 1e12, {"loss": 2.0})
    tracker.close("FINISHED")
    with pytest.raises(DamagedError, match=rf"mv {database} {database}\.broken") as refused:
        open_store(uri)
    assert "\n" not in str(refused.value)

    database.rename(f"{database}.broken")
    assert sync(run) > 0
    client = MlflowClient(uri)
    (experiment,) = client.search_experiments(filter_string="name = 'e'")
    (tracked,) = client.search_runs([experiment.experiment_id])
    assert tracked.data.metrics["loss"] == 2.0


def test_a_database_that_fails_is_an_error_and_no_traceback_in_the_log(tmp_path, capfd):
    client = open_store(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.create_experiment("one")
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("ALTER TABLE runs RENAME TO away")
    capfd.readouterr()
    with pytest.raises(MlflowException, match="no such table: runs"):
        client.create_run(experiment)
    assert "Traceback" not in "".join(capfd.readouterr())
