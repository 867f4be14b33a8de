"""A real MLflow store (SQLite), and how the tests track runs in it."""

import shutil

import pytest
from mlflow import MlflowClient

from convbert.pretrain.tracking.tracker import add_to_run, open_tracker


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store(empty_store, tmp_path):
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def _start(run_dir, uri, *, resume_step=None, params=None, **more):
    return open_tracker(
        run_dir,
        enabled=True,
        experiment="pretraining",
        run_name="tiny",
        tracking_uri=uri,
        params=params or {"model": {"layers": 3}, "seed": 0},
        tags={"manifest": "abc"},
        resume_step=resume_step,
        **more,
    )


def _add(run_dir, uri):
    return add_to_run(run_dir, experiment="pretraining", run_name="tiny", tracking_uri=uri)


def _log_steps(tracker, steps):
    for step in steps:
        tracker.log(step, step * 2e9, {"loss": 10.0 / step, "rate": 1e-3})


def _only_run(uri):
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("pretraining")
    (run,) = client.search_runs([experiment.experiment_id])
    return client, run


def _history(uri, key):
    client, run = _only_run(uri)
    return [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, key)]


@pytest.fixture
def start():
    return _start


@pytest.fixture
def add():
    return _add


@pytest.fixture
def log_steps():
    return _log_steps


@pytest.fixture
def only_run():
    return _only_run


@pytest.fixture
def history():
    return _history
