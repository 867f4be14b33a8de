"""MLflow and the report show what was trained: after going back, with new settings, elsewhere."""

import logging

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from convbert.models.errors import UserError
from convbert.pretrain.run.curve import Curve, Point, Spread
from convbert.pretrain.run.tracking_uri import resolve_uri
from convbert.pretrain.tracking.metrics_log import hand_in, inbox, read_records
from convbert.pretrain.tracking.records import CurvePoint, NestedRun, now
from convbert.pretrain.tracking.stopped_run import sync
from convbert.pretrain.tracking.tracked_run import (
    RunState,
    TrackedRun,
    resolve_experiment,
)


def newest(uri, only_run, key):
    """Return the value of each step that the server got last."""
    client, run = only_run(uri)
    history = client.get_metric_history(run.info.run_id, key)
    return {m.step: m.value for m in sorted(history, key=lambda m: m.timestamp)}


def train(tracker, steps, loss):
    for step in steps:
        tracker.log(step, step * 1e9, {"loss": loss + step})
        tracker.curve_point(step * 1e9, "held_out/loss", loss + step, step=step)
    tracker.close("KILLED")


def test_every_value_after_going_back_is_the_new_one(tmp_path, store, start, only_run):
    """By hand, twice, the second time before what the first one had reached again."""
    run_dir = tmp_path / "run"
    train(start(run_dir, store), range(1, 13), 100.0)
    train(start(run_dir, store, resume_step=4), range(5, 9), 200.0)
    # The first values once more: the server has had them, but newer ones since.
    train(start(run_dir, store, resume_step=4), range(5, 13), 100.0)
    train(start(run_dir, store, resume_step=10), range(11, 15), 300.0)
    expected = {s: (100.0 if s <= 10 else 300.0) + s for s in range(1, 15)}
    assert newest(store, only_run, "loss") == expected
    assert newest(store, only_run, "held_out/loss") == expected
    assert newest(store, only_run, "training/guards/restart_repeat/step") == {5: 12.0, 11: 12.0}
    (run_dir / "mlflow_cursor.json").unlink()
    assert sync(run_dir) == 0


def test_a_guard_goes_back_over_what_was_gone_back_over_by_hand(tmp_path, store, start, only_run):
    run_dir = tmp_path / "run"
    train(start(run_dir, store), range(1, 13), 100.0)
    tracker = start(run_dir, store, resume_step=4)
    tracker.log(5, 5e9, {"loss": 205.0})
    tracker.rollback("nan", 4, {"step": 6, "loss": float("nan")})
    train(tracker, range(5, 13), 300.0)
    found = newest(store, only_run, "loss")
    assert found == {s: (100.0 if s <= 4 else 300.0) + s for s in range(1, 13)}


def test_what_an_evaluation_left_of_later_checkpoints_does_not_come_back(tmp_path, start):
    train(start(tmp_path, "off"), range(1, 9), 100.0)
    hand_in(tmp_path, [CurvePoint("t/f1", now(), s * 1e9, 0.5, {"step": s}) for s in (4, 8)])
    start(tmp_path, "off", resume_step=4).close("KILLED")
    points = [r for r in read_records(tmp_path / "metrics.jsonl") if isinstance(r, CurvePoint)]
    assert [p.flops for p in points if p.curve == "t/f1"] == [4e9]
    assert not inbox(tmp_path)


def test_curves_lose_the_checkpoints_that_are_trained_again(tmp_path, start):
    spread = Spread.of([0.5])
    points = [Point(step=s, flops=s * 1e9, spread=spread) for s in (4, 8)]
    curve = Curve(run="run", task="t", metric="accuracy", baseline=spread, points=points)
    for task, kept in (("one", points), ("two", points[1:])):
        folder = tmp_path / "report" / task
        folder.mkdir(parents=True)
        content = curve.model_copy(update={"points": kept}).model_dump_json()
        (folder / "curve.json").write_text(content)
    start(tmp_path, "off", resume_step=8).close("KILLED")
    assert (tmp_path / "report" / "two" / "curve.json").exists()
    start(tmp_path, "off", resume_step=4).close("KILLED")
    (left,) = (tmp_path / "report").glob("*/curve.json")
    assert Curve.model_validate_json(left.read_bytes()).points == points[:1]


def test_changed_parameters_are_current_in_a_new_run_with_everything(
    tmp_path, store, start, log_steps, only_run, history
):
    run_dir = tmp_path / "run"
    tracker = start(run_dir, store, params={"run": {"steps": 8}, "seed": 0})
    log_steps(tracker, range(1, 9))
    tracker.nested(NestedRun("mr-0", "mr, seed 0", now(), 1.0))
    tracker.close("FINISHED")
    client = MlflowClient(store)
    runs = client.search_runs(["1"])
    first = next(run for run in runs if run.info.run_name == "tiny")
    client.log_metric(
        first.info.run_id, "branches/held_out/accuracy", 0.5, step=3
    )  # as its branches do
    client.log_metric(first.info.run_id, "curve_flops", 3e9, step=3)
    client.log_metric(first.info.run_id, "curve_flops", 4e9, step=4)

    tracker = start(run_dir, store, resume_step=8, params={"run": {"steps": 12}, "seed": 0})
    log_steps(tracker, range(9, 13))
    tracker.close("FINISHED")
    runs = {run.info.run_name: run for run in client.search_runs(["1"])}
    assert set(runs) == {"tiny", "mr, seed 0 of tiny"}
    second = runs["tiny"]
    assert second.data.params == {"run.steps": "12", "seed": "0"}
    assert second.info.start_time == first.info.start_time
    assert runs["mr, seed 0 of tiny"].data.tags["mlflow.parentRunId"] == second.info.run_id
    assert TrackedRun.load(run_dir).state.run_id == second.info.run_id
    found = {m.step: m.value for m in client.get_metric_history(second.info.run_id, "loss")}
    assert found == {step: 10.0 / step for step in range(1, 13)}
    branches = client.get_metric_history(second.info.run_id, "branches/held_out/accuracy")
    assert [(m.step, m.value) for m in branches] == [(3, 0.5)]
    costs = client.get_metric_history(second.info.run_id, "curve_flops")
    assert [(m.step, m.value) for m in costs] == [(3, 3e9)]
    (deleted,) = client.search_runs(["1"], run_view_type=ViewType.DELETED_ONLY)
    assert deleted.info.run_id == first.info.run_id
    assert sync(run_dir) == 0


def test_the_experiment_is_named_by_the_environment_too(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert resolve_experiment(tmp_path, None) == "convbert-pretraining"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "of the team")
    assert resolve_experiment(tmp_path, None) == "of the team"
    assert resolve_experiment(tmp_path, "own") == "own"
    # A shell without these variables, in which the run is evaluated, does not move it elsewhere.
    server = "http://tracking:5000"
    TrackedRun.open(
        tmp_path, RunState(tracking_uri=server, experiment="of the team", run_name="run")
    )
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    assert resolve_experiment(tmp_path, None) == "of the team"
    assert resolve_uri(tmp_path, None) == server


def test_a_deleted_experiment_is_said_with_what_works(
    tmp_path, store, start, log_steps, caplog, history
):
    client = MlflowClient(store)
    experiment = client.create_experiment("pretraining")
    client.delete_experiment(experiment)
    run_dir = tmp_path / "run"
    with caplog.at_level(logging.WARNING):
        tracker = start(run_dir, store)
        log_steps(tracker, [1])
        tracker.close("FINISHED")
    advice = f"mlflow experiments restore --experiment-id {experiment}`"
    assert sum(advice in said for said in caplog.messages) == 1
    assert not any("will try again" in said for said in caplog.messages)
    with pytest.raises(UserError, match="experiment 'pretraining' is deleted; restore it with"):
        sync(run_dir)
    client.restore_experiment(experiment)  # what that command does
    assert sync(run_dir) == 3
    assert history(store, "loss") == [(1, 10.0)]


def test_a_place_that_cannot_be_written_is_said_with_the_remedy(
    tmp_path, store, start, only_run, caplog
):
    MlflowClient(store).create_experiment("pretraining", "gs://bucket/of-the-team")
    run_dir = tmp_path / "run"
    (run_dir / "report").mkdir(parents=True)
    picture = run_dir / "report" / "curve.png"
    picture.write_bytes(b"picture")
    with caplog.at_level(logging.WARNING):
        tracker = start(run_dir, store)
        tracker.artifact(picture)
        tracker.close("FINISHED")
    (said,) = (said for said in caplog.messages if "report/curve.png" in said)
    assert "gs://bucket/of-the-team" in said
    assert "google-cloud-storage" in said
    assert "--artifacts-destination" in said
    with pytest.raises(UserError, match="google-cloud-storage"):
        sync(run_dir)
