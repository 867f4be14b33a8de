"""A copied run directory has an MLflow run of its own; a moved one goes on in the same."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.tracking._tracking_service import utils

from convbert.models.errors import UserError
from convbert.pretrain.run.tracking_uri import resolve_uri
from convbert.pretrain.tracking.mlflow_names import of_curve
from convbert.pretrain.tracking.mlflow_store import open_store
from convbert.pretrain.tracking.stopped_run import store_of, sync
from convbert.pretrain.tracking.tracked_run import COPY_TAG, TrackedRun


@pytest.fixture(autouse=True)
def _no_store_of_the_environment(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def made_store(tmp_path_factory):
    """A database as the first run in a folder makes it, which takes MLflow seconds."""
    path = tmp_path_factory.mktemp("made") / "mlflow.db"
    open_store(f"sqlite:///{path}")
    return path


@pytest.fixture
def run_dir(made_store, tmp_path, start, log_steps):
    """A run of five steps in ``project/runs``, tracked in the default store beside it."""
    folder = tmp_path / "project" / "runs" / "one"
    folder.mkdir(parents=True)
    shutil.copy(made_store, folder.parent)
    (folder / "config.yaml").touch()
    tracker = start(folder, None)
    log_steps(tracker, range(1, 6))
    artifact = folder / "curve.txt"
    artifact.write_text("curve")
    tracker.artifact(artifact)
    tracker.close("FINISHED")
    return folder


def runs_in(database):
    client = MlflowClient(f"sqlite:///{database}")
    ids = [e.experiment_id for e in client.search_experiments()]
    return client, {run.info.run_id: run for run in client.search_runs(ids)}


def losses(client, run_id):
    return [m.step for m in client.get_metric_history(run_id, "loss")]


def test_a_copy_beside_its_origin_has_a_run_of_its_own_with_the_whole_curve(
    run_dir, start, log_steps
):
    database = run_dir.parent / "mlflow.db"
    client, (origin_id,) = runs_in(database)
    copy = run_dir.with_name("copy")
    shutil.copytree(run_dir, copy)
    assert TrackedRun.load(copy).state.run_id is None
    assert TrackedRun.load(copy).state.key == TrackedRun.load(copy).state.key
    tracker = start(copy, None, resume_step=5, params={"seed": 1})  # as if with other settings
    log_steps(tracker, range(6, 8))
    tracker.close("FINISHED")
    client, runs = runs_in(database)
    (own_id,) = runs.keys() - {origin_id}
    assert losses(client, own_id) == [1, 2, 3, 4, 5, 6, 7]
    assert losses(client, origin_id) == [1, 2, 3, 4, 5]
    assert runs[own_id].data.tags[COPY_TAG] == origin_id
    assert runs[own_id].data.tags[f"{COPY_TAG}_directory"] == str(run_dir)
    assert sync(copy) == 0  # from now on it is a run like any other
    assert runs_in(database)[1].keys() == {origin_id, own_id}
    second = copy.with_name("second")
    shutil.copytree(copy, second)
    sync(second)
    assert runs_in(database)[1].keys() > {origin_id, own_id}


def test_a_copy_elsewhere_has_a_database_of_its_own(run_dir, tmp_path, add):
    database = run_dir.parent / "mlflow.db"
    (tmp_path / "away").mkdir()
    copy = shutil.copytree(run_dir, tmp_path / "away" / "one")
    before = database.read_bytes()
    evaluation = add(copy, None)
    evaluation.curve_point(4e9, "sst2/accuracy", 0.7)
    evaluation.close("FINISHED")
    client, (own,) = runs_in(tmp_path / "away" / "mlflow.db")
    assert [m.step for m in client.get_metric_history(own, of_curve("sst2/accuracy"))] == [4]
    assert losses(client, own) == [1, 2, 3, 4, 5]
    assert database.read_bytes() == before


def test_a_copy_that_was_made_while_its_origin_trained_is_no_running_one(
    run_dir, start, log_steps, only_run
):
    tracker = start(run_dir, None)
    copy = shutil.copytree(run_dir, run_dir.with_name("copy"))
    sync(copy)
    log_steps(tracker, range(6, 8))
    tracker.close("FINISHED")
    _, runs = runs_in(run_dir.parent / "mlflow.db")
    assert sorted(run.info.status for run in runs.values()) == ["FINISHED", "KILLED"]


def test_a_moved_run_goes_on_in_its_store_and_keeps_its_run(
    run_dir, tmp_path, start, log_steps, history, only_run
):
    store = f"sqlite:///{run_dir.parent / 'mlflow.db'}"
    _, before = only_run(store)
    moved = tmp_path / "archive" / "renamed"
    moved.parent.mkdir()
    shutil.copytree(run_dir, moved)  # across file systems
    shutil.rmtree(run_dir)
    assert resolve_uri(moved, None) == store_of(moved) == store
    tracker = start(moved, None, resume_step=5)
    log_steps(tracker, [6])
    tracker.close("FINISHED")
    assert [step for step, _ in history(store, "loss")] == [1, 2, 3, 4, 5, 6]
    assert only_run(store)[1].info.run_id == before.info.run_id
    assert not (moved.parent / "mlflow.db").exists()


@pytest.mark.parametrize("original", ["there", "gone"])
def test_a_store_that_was_moved_or_copied_with_its_runs_keeps_its_files_with_it(
    run_dir, tmp_path, add, original
):
    project, other = tmp_path / "project", tmp_path / "elsewhere" / "pro ject"
    shutil.copytree(project, other)
    if original == "gone":
        shutil.rmtree(project)
    utils._artifact_repos_cache.clear()  # this process has used the run where it was
    before = {p: p.read_bytes() for p in project.rglob("*") if p.is_file()}
    run = other / "runs" / "one"
    (run / "page.html").write_text("page")
    evaluation = add(run, None)
    evaluation.artifact(run / "page.html")
    evaluation.close("FINISHED")
    client, (run_id,) = runs_in(other / "runs" / "mlflow.db")  # its own, in a database of its own
    assert {f.path for f in client.list_artifacts(run_id)} >= {"curve.txt", "page.html"}
    assert client.get_run(run_id).info.artifact_uri.startswith(other.as_uri())
    assert Path(client.download_artifacts(run_id, "page.html")).read_text() == "page"
    assert losses(client, run_id) == [1, 2, 3, 4, 5]
    assert {p: p.read_bytes() for p in project.rglob("*") if p.is_file()} == before
    assert project.exists() == (original == "there")


def test_no_database_is_made_where_the_old_one_was(run_dir, tmp_path):
    moved = tmp_path / "away" / "one"
    moved.parent.mkdir()
    run_dir.rename(moved)
    shutil.rmtree(tmp_path / "project")
    assert sync(moved) > 0
    assert not (tmp_path / "project").exists()
    assert len(runs_in(tmp_path / "away" / "mlflow.db")[1]) == 1


def test_a_given_store_stays_that_of_the_run_wherever_the_next_command_starts(
    run_dir, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    sync(run_dir, "sqlite:///other.db")
    monkeypatch.chdir("/")
    assert store_of(run_dir) == f"sqlite:///{tmp_path / 'other.db'}"


@pytest.mark.parametrize("uri", ["off", "sqlite:////nowhere/at/all.db"])
def test_a_store_that_cannot_be_is_refused_before_anything_is_written(run_dir, uri):
    files = {p: p.read_bytes() for p in run_dir.rglob("*") if p.is_file()}
    with pytest.raises(UserError, match="tracking URI"):
        sync(run_dir, uri)
    assert {p: p.read_bytes() for p in run_dir.rglob("*") if p.is_file()} == files
