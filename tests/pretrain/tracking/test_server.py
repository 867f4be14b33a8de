"""A real MLflow server that dies and hangs while a run goes on."""

import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import Counter

import pytest
from mlflow import MlflowClient

from convbert.pretrain.tracking.tracker import open_tracker, sync

pytestmark = pytest.mark.integration


class Server:
    """An ``mlflow server`` in its own process group, on a port of its own."""

    def __init__(self, folder):
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self):
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/server.db"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=1):
                    return
            except OSError:
                time.sleep(0.3)
        raise AssertionError((self.folder / "server.log").read_text()[-2000:])

    def signal(self, number):
        os.killpg(self.process.pid, number)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait()


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
