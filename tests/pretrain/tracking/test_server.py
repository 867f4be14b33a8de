"""A real MLflow server that dies and hangs while a run goes on."""

import signal
import statistics
import time
from collections import Counter

import pytest
from mlflow import MlflowClient
from mlflow_server import Server

from convbert.models.errors import UserError
from convbert.pretrain.tracking.stopped_run import sync
from convbert.pretrain.tracking.tracker import open_tracker

pytestmark = pytest.mark.integration


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path)
    server.start()
    yield server
    server.signal(signal.SIGCONT)
    server.kill()


def start(run_dir, url):
    return open_tracker(
        run_dir,
        enabled=True,
        experiment="pretraining",
        run_name="tiny",
        tracking_uri=url,
        params={"seed": 0},
        tags={},
        resume_step=None,
    )


def steps_on(url):
    client = MlflowClient(url)
    experiment = client.get_experiment_by_name("pretraining")
    (run,) = client.search_runs([experiment.experiment_id])
    return Counter(m.step for m in client.get_metric_history(run.info.run_id, "loss")), run


def log_for(tracker, seconds, step, durations):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        step += 1
        before = time.monotonic()
        tracker.log(step, step * 1e12, {"loss": 1.0 / step})
        durations.append(time.monotonic() - before)
        time.sleep(0.01)
    return step


def test_a_killed_and_restarted_server_gets_every_metric_once(tmp_path, server):
    run_dir = tmp_path / "run"
    durations = []
    tracker = start(run_dir, server.url)
    step = log_for(tracker, 8, 0, durations)
    server.kill()
    step = log_for(tracker, 5, step, durations)
    server.start()
    step = log_for(tracker, 3, step, durations)
    tracker.close("FINISHED")
    sync(run_dir)

    counts, run = steps_on(server.url)
    assert counts == Counter(range(1, step + 1))
    assert run.info.status == "FINISHED"
    assert statistics.median(durations) < 1e-3
    assert max(durations) < 0.5


@pytest.mark.slow
def test_a_hanging_server_neither_slows_nor_holds_the_run(tmp_path, server):
    run_dir = tmp_path / "run"
    durations = []
    tracker = start(run_dir, server.url)
    step = log_for(tracker, 6, 0, durations)
    server.signal(signal.SIGSTOP)
    step = log_for(tracker, 6, step, durations)
    before = time.monotonic()
    tracker.close("KILLED")
    assert time.monotonic() - before < 20
    assert max(durations) < 0.5

    server.signal(signal.SIGCONT)
    sync(run_dir)
    counts, run = steps_on(server.url)
    assert counts == Counter(range(1, step + 1))
    assert run.info.status == "KILLED"


@pytest.mark.slow
def test_files_that_the_server_cannot_see_are_said_with_the_remedy(tmp_path, monkeypatch):
    """The server keeps files in a folder of its own machine, to which MLflow's client writes."""
    folder = tmp_path / "server"
    folder.mkdir()
    store = f"--backend-store-uri=sqlite:///{folder}/server.db"
    options = ["--workers=1", store, "--no-serve-artifacts", f"--default-artifact-root={folder}/a"]
    server = Server(folder, options)
    server.start()
    try:
        run_dir = tmp_path / "run"
        tracker = start(run_dir, server.url)
        for name in ("here.txt", "report/there.txt"):
            path = run_dir / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("x")
            tracker.artifact(path)
        real = MlflowClient.log_artifact

        def to_another_disk(self, run_id, path, *more):
            if "there" not in path:
                real(self, run_id, path, *more)

        monkeypatch.setattr(MlflowClient, "log_artifact", to_another_disk)
        tracker.close("FINISHED")
        with pytest.raises(UserError, match=r"report/there.txt: .*directory of the server's") as no:
            sync(run_dir)
        assert "here.txt" not in str(no.value).replace("there.txt", "")
        assert "--artifacts-destination" in str(no.value)
    finally:
        server.kill()
