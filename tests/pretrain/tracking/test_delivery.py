"""What the delivery to MLflow does with files that are refused, and what it keeps in memory."""

import logging
import time
import tracemalloc
from collections import Counter

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

from convbert.models.errors import AbsentError, UserError
from convbert.pretrain.tracking.metrics_log import FILE_NAME, hand_in, inbox
from convbert.pretrain.tracking.mlflow_delivery import Delivery
from convbert.pretrain.tracking.mlflow_metrics import SentMetrics
from convbert.pretrain.tracking.records import CurvePoint, StepRecord
from convbert.pretrain.tracking.stopped_run import sync
from convbert.pretrain.tracking.tracked_run import TrackedRun

DEAD = "http://127.0.0.1:9"  # the discard port: connections are refused


@pytest.fixture
def refused(tmp_path):
    """Make the store refuse all files until this one is removed: it lies where they would."""
    path = tmp_path / "mlartifacts"
    path.write_bytes(b"")
    return path


def picture_of(run_dir):
    path = run_dir / "report" / "curve.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"picture")
    return path


def files_of(uri, only_run):
    client, run = only_run(uri)
    return [entry.path for entry in client.list_artifacts(run.info.run_id, "report")]


def test_a_file_that_is_refused_holds_up_no_metric_and_is_not_forgotten(
    tmp_path, store, refused, start, log_steps, history, caplog
):
    run_dir = tmp_path / "run"
    with caplog.at_level(logging.WARNING):
        tracker = start(run_dir, store)
        log_steps(tracker, [1])
        tracker.artifact(picture_of(run_dir))
        tracker.close("KILLED")
    assert sum("report/curve.png is not sent to MLflow" in said for said in caplog.messages) == 1
    assert any("`convbert track sync` delivers the rest" in said for said in caplog.messages)
    tracker = start(run_dir, "off")
    log_steps(tracker, [2])
    tracker.close("KILLED")
    delivery = Delivery(run_dir, TrackedRun.load(run_dir))
    assert delivery.deliver() == 3
    assert history(store, "loss") == [(1, 10.0), (2, 5.0)]
    assert list(delivery.set_aside) == ["report/curve.png"]


def test_sync_names_a_file_that_is_refused_and_delivers_it_later(
    tmp_path, store, refused, start, log_steps, only_run
):
    run_dir = tmp_path / "run"
    tracker = start(run_dir, store)
    tracker.artifact(picture_of(run_dir))
    log_steps(tracker, [1])
    tracker.close("FINISHED")
    with pytest.raises(UserError, match=r"could not deliver all of .*report/curve\.png"):
        sync(run_dir)
    assert only_run(store)[1].info.status == "FINISHED"
    refused.unlink()
    assert sync(run_dir) == 0
    assert files_of(store, only_run) == ["report/curve.png"]


def test_a_file_that_is_refused_is_tried_again_while_the_run_goes_on(
    tmp_path, store, refused, start, only_run, monkeypatch
):
    monkeypatch.setattr("convbert.pretrain.tracking.mlflow_delivery.RETRY_SECONDS", 0.0)
    run_dir = tmp_path / "run"
    tracker = start(run_dir, store)
    tracker.artifact(picture_of(run_dir))
    tracker.close("FINISHED")
    delivery = Delivery(run_dir, TrackedRun.load(run_dir))
    delivery.deliver()
    assert delivery.set_aside
    refused.unlink()
    delivery.deliver()
    assert not delivery.set_aside
    assert files_of(store, only_run) == ["report/curve.png"]


def test_no_file_is_set_aside_while_the_server_is_away(
    tmp_path, store, start, log_steps, only_run, monkeypatch
):
    run_dir = tmp_path / "run"
    tracker = start(run_dir, DEAD)
    log_steps(tracker, [1])
    tracker.artifact(picture_of(run_dir))
    tracker.close("FINISHED")
    delivery = Delivery(run_dir, TrackedRun.load(run_dir, store))

    with monkeypatch.context() as patch:

        def away(*_arguments, **_more):
            patch.setattr(MlflowClient, "get_run", away)
            raise ConnectionError("connection refused")

        patch.setattr(MlflowClient, "log_artifact", away)
        with pytest.raises(ConnectionError):
            delivery.deliver()
        assert not delivery.set_aside
    assert delivery.deliver() == 0  # the metrics had arrived
    assert files_of(store, only_run) == ["report/curve.png"]


def test_an_evaluation_puts_files_where_the_training_would(tmp_path, store, start, add, only_run):
    run_dir = tmp_path / "run"
    start(run_dir, store).close("FINISHED")
    evaluation = add(run_dir, store)
    evaluation.artifact(picture_of(run_dir))
    evaluation.close("FINISHED")
    assert files_of(store, only_run) == ["report/curve.png"]


def test_an_evaluation_that_cannot_deliver_says_so(tmp_path, start, add, caplog):
    run_dir = tmp_path / "run"
    start(run_dir, DEAD).close("FINISHED")
    caplog.clear()
    evaluation = add(run_dir, DEAD)
    evaluation.curve_point(4e9, "sst2/accuracy", 0.7)
    evaluation.close("FINISHED")
    said = f"{DEAD}: could not deliver all of {run_dir}: no answer (Connection refused); "
    assert f"{said}`convbert track sync {run_dir}` tries again" in caplog.messages
    assert not inbox(run_dir)  # it is in the log


def test_a_password_in_the_address_is_not_logged(tmp_path, start, add, caplog):
    run_dir, uri = tmp_path / "run", DEAD.replace("//", "//anna:pa%40ss@")
    start(run_dir, uri).close("FINISHED")
    evaluation = add(run_dir, uri)
    evaluation.curve_point(4e9, "sst2/accuracy", 0.7)
    evaluation.close("FINISHED")
    assert sum(DEAD in message for message in caplog.messages) >= 2  # of training and evaluation
    assert "pa%40ss" not in caplog.text
    assert "anna" not in caplog.text  # a token stands in the place of a name


def test_a_run_that_is_not_there_is_said_to_be_so(tmp_path):
    with pytest.raises(AbsentError, match=r"none: no such directory; name the directory of a run$"):
        sync(tmp_path / "none")
    (tmp_path / "untracked").mkdir()
    with pytest.raises(AbsentError, match=r"untracked/mlflow\.json: no such file; was this run"):
        sync(tmp_path / "untracked")


def test_what_is_kept_of_steps_that_were_sent_does_not_grow(store):
    client = MlflowClient(store)
    run_id = client.create_run(client.create_experiment("pretraining")).info.run_id
    sent = SentMetrics(client)

    def send(steps):
        for step in steps:
            record = StepRecord(step, float(step), 0.0, {})
            assert sent.add(run_id, Metric("loss", 1.0, 1000 * step, step), record)

    send(range(1, 1001))
    tracemalloc.start()
    send(range(1001, 6001))
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 20_000  # an entry a step would take 500,000 and more


def test_steps_that_are_trained_again_after_a_rollback_arrive_once_whenever_it_ends(
    tmp_path, store, start, log_steps, history
):
    run_dir = tmp_path / "run"
    tracker = start(run_dir, store)
    log_steps(tracker, range(1, 11))
    with tracker._spool.paused() as delivery:
        delivery.deliver()
    time.sleep(0.01)
    tracker.rollback("nan", 6, {"step": 10})
    time.sleep(0.01)
    for step in (7, 8):
        tracker.log(step, step * 2e9, {"loss": -1.0})
    tracker.close("KILLED")
    for step in range(9, 13):  # the process begins anew where it was, and the cursor is lost
        (run_dir / "mlflow_cursor.json").unlink()
        tracker = start(run_dir, store)
        tracker.log(step, step * 2e9, {"loss": -1.0})
        tracker.close("KILLED")
    sent = Counter(step for step, value in history(store, "loss") if value == -1.0)
    assert sent == Counter(range(7, 13))
    assert sum(value != -1.0 for _, value in history(store, "loss")) == 10


def test_lines_that_were_lost_after_they_were_delivered_hold_up_nothing(
    tmp_path, store, start, log_steps, history
):
    run_dir = tmp_path / "run"
    tracker = start(run_dir, store)
    log_steps(tracker, [1, 2])
    tracker.close("KILLED")
    log = run_dir / FILE_NAME
    lost = log.read_bytes().splitlines(keepends=True)[-1]
    log.write_bytes(log.read_bytes().removesuffix(lost))  # by a power failure
    hand_in(run_dir, [CurvePoint(f"a/longer/line/{n}", 1.0, 2e9, 0.5) for n in range(5)])
    assert sync(run_dir) == 6
    assert history(store, "loss") == [(1, 10.0), (2, 5.0)]
