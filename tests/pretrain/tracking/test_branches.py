"""Branches in MLflow: children of their trunk, whose run holds the one curve that they make."""

import pytest
from mlflow import MlflowClient

from convbert.pretrain.run.branches import FILE_NAME, Origin
from convbert.pretrain.tracking.stopped_run import sync
from convbert.pretrain.tracking.tracked_run import TrackedRun


def begin_branch(run_dir, key, step, decay):
    run_dir.mkdir()
    flops = step * 2e9
    origin = Origin(
        trunk="trunk", path=run_dir.parent / "trunk", key=key, step=step, decay=decay, flops=flops,
        end_flops=flops + decay * 2e9, hours=None, manifest="0" * 64,
    )  # fmt: skip
    (run_dir / FILE_NAME).write_text(origin.model_dump_json())


def measure(tracker, steps, *, seed=False):
    """Log updates and, after each, a measure that tells its step."""
    for step in steps:
        tracker.log(step, step * 2e9, {"loss": 1.0})
        tracker.curve_point(step * 2e9, "held_out/accuracy", step / 1000, step=step)
        if seed:
            tracker.curve_point(step * 2e9, "mood/accuracy", 0.5, step=step, within="seed")


def runs_of(uri):
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("pretraining").experiment_id
    found = client.search_runs([experiment])
    return client, {r.data.params.get("name", "a seed"): r for r in found}


def test_branches_are_children_of_their_trunk_and_share_one_curve(tmp_path, store, start):
    trunk = start(tmp_path / "trunk", store, params={"name": "trunk"})
    key = TrackedRun.load(tmp_path / "trunk").state.key
    measure(trunk, [100, 200, 300])
    with trunk._spool.paused() as delivery:
        delivery.deliver()
    for step in (200, 100):
        folder = tmp_path / f"at-{step}"
        begin_branch(folder, key, step, 10)
        tracker = start(folder, store, params={"name": folder.name})
        measure(tracker, [step, step + 5, step + 10], seed=True)
        tracker.close("FINISHED")
    trunk.close("FINISHED")

    client, runs = runs_of(store)
    whole = runs["trunk"]
    for step in (100, 200):
        tags = runs[f"at-{step}"].data.tags
        assert tags["mlflow.parentRunId"] == whole.info.run_id
        assert (tags["convbert.branch_of"], tags["convbert.branch_step"]) == ("trunk", str(step))
        assert tags["convbert.branch_decay"] == "10"
    history = client.get_metric_history(whole.info.run_id, "branches/held_out/accuracy")
    # Steps are GFLOPs: 2 of each update.
    assert sorted((m.step, m.value) for m in history) == [(220, 0.11), (420, 0.21)]
    own = client.get_metric_history(whole.info.run_id, "held_out/accuracy")
    assert sorted(m.step for m in own) == [200, 400, 600]
    assert not [name for name in whole.data.metrics if name.startswith("branches/mood")]
    assert sync(tmp_path / "at-100") == 0
    assert len(client.get_metric_history(whole.info.run_id, "branches/held_out/accuracy")) == 2


def test_a_trunk_that_reaches_the_server_after_its_branch_gets_its_point(tmp_path, store, start):
    trunk = start(tmp_path / "trunk", "http://127.0.0.1:9", params={"name": "trunk"})
    key = TrackedRun.load(tmp_path / "trunk").state.key
    measure(trunk, [100])
    trunk.close("KILLED")
    begin_branch(tmp_path / "at-100", key, 100, 10)
    tracker = start(tmp_path / "at-100", store, params={"name": "branch"})
    measure(tracker, [110])
    tracker.close("FINISHED")
    assert "mlflow.parentRunId" not in runs_of(store)[1]["branch"].data.tags

    sync(tmp_path / "trunk", store)
    sync(tmp_path / "at-100")
    _, runs = runs_of(store)
    assert runs["branch"].data.tags["mlflow.parentRunId"] == runs["trunk"].info.run_id
    assert runs["trunk"].data.metrics["branches/held_out/accuracy"] == pytest.approx(0.11)
