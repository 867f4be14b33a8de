"""What reaches a real MLflow store (SQLite): every record once, in one run, also after trouble."""

import json
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient
from mlflow.system_metrics.metrics import gpu_monitor

from convbert.models.errors import AbsentError, TransientError, UserError
from convbert.pretrain.run.tracking_uri import resolve_uri
from convbert.pretrain.tracking.metrics_log import inbox, read_records
from convbert.pretrain.tracking.mlflow_delivery import Delivery
from convbert.pretrain.tracking.records import EventRecord, NestedRun, StepRecord, SystemRecord
from convbert.pretrain.tracking.stopped_run import sync
from convbert.pretrain.tracking.tracked_run import DataInput, RunState, TrackedRun
from convbert.pretrain.tracking.tracker import open_tracker

DEAD = "http://127.0.0.1:9"  # the discard port: connections are refused


SHARDS = DataInput(
    name="shards", digest="a" * 64, source="/data/shards/manifest.json", context="training",
    profile={"sequences": 512},
)  # fmt: skip


def test_a_run_arrives_whole(tmp_path, store, start, log_steps, only_run, history):
    tracker = start(tmp_path / "run", store)
    log_steps(tracker, range(1, 2001))  # several batches of 1000 metrics
    tracker.curve_point(3e15, "mr/accuracy", 0.71, low=0.70, high=0.72, scores=[0.70, 0.71, 0.72])
    (tmp_path / "run" / "report").mkdir()
    picture = tmp_path / "run" / "report" / "curve.png"
    picture.write_bytes(b"picture")
    tracker.artifact(picture)
    tracker.close("FINISHED")

    client, run = only_run(store)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "tiny"
    assert run.data.params == {"model.layers": "3", "seed": "0"}
    assert run.data.tags["manifest"] == "abc"
    assert sorted(history(store, "loss")) == [(s, 10.0 / s) for s in range(1, 2001)]
    assert sorted(history(store, "flops"))[-1] == (2000, 4e12)
    # Curves count GFLOPs: 3e15 FLOPs are step 3,000,000.
    assert history(store, "finetuned/mr/accuracy") == [(3_000_000, 0.71)]
    assert not [name for name in run.data.metrics if name.endswith(("_low", "_high", "_step"))]
    assert history(store, "curve_flops") == [(3_000_000, 3e15)]
    local = client.download_artifacts(run.info.run_id, "report/curve.png", str(tmp_path))
    assert Path(local).read_bytes() == b"picture"
    assert run.info.artifact_uri.startswith((tmp_path / "mlartifacts").as_uri())


def log_seed(tracker, seed, *values):
    key = f"mr-{seed}"
    tracker.nested(
        NestedRun(key, f"mr, seed {seed}", time.time(), 30.0, {"seed": str(seed)}, {"task": "mr"})
    )
    for number, value in enumerate(values):
        tracker.curve_point(number * 1e12, "mr/accuracy", value, within=key)


def test_seeds_are_nested_runs_which_arrive_once(tmp_path, store, start, add):
    run_dir = tmp_path / "run"
    start(run_dir, store, inputs=[SHARDS]).close("KILLED")
    for _ in range(2):  # the second time with one more checkpoint
        tracker = add(run_dir, store)
        tracker.curve_point(1e12, "mr/accuracy", 0.65, scores=[0.6, 0.7])
        log_seed(tracker, 0, 0.5, 0.6)
        log_seed(tracker, 1, 0.5, 0.7, 0.8)
        tracker.close("FINISHED")
        (run_dir / "mlflow_cursor.json").unlink()
    assert sync(run_dir) == 0

    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("pretraining").experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert set(runs) == {"tiny", "mr, seed 0 of tiny", "mr, seed 1 of tiny"}
    parent = runs["tiny"]
    for seed, values in enumerate(([0.5, 0.6], [0.5, 0.7, 0.8])):
        run = runs[f"mr, seed {seed} of tiny"]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.params == {"seed": str(seed)}
        assert (run.info.status, run.data.tags["task"]) == ("FINISHED", "mr")
        assert run.info.end_time - run.info.start_time >= 29_000
        for key, expected in (
            ("finetuned/mr/accuracy", values),
            ("curve_flops", [0.0, 1e12, 2e12]),
        ):
            points = client.get_metric_history(run.info.run_id, key)
            assert sorted((m.step, m.value) for m in points) == [
                (1000 * number, value) for number, value in enumerate(expected[: len(values)])
            ]
    (read,) = parent.inputs.dataset_inputs
    assert (read.dataset.name, read.dataset.digest) == ("shards", "a" * 36)
    assert json.loads(read.dataset.profile) == {"sequences": 512, "digest": "a" * 64}
    assert {tag.key: tag.value for tag in read.tags} == {"mlflow.data.context": "training"}


def test_an_evaluation_leaves_the_outcome_of_the_training(tmp_path, store, start, add, only_run):
    run_dir = tmp_path / "run"
    start(run_dir, store).close("FAILED")
    ended = only_run(store)[1].info
    tracker = add(run_dir, store)
    tracker.curve_point(1e12, "mr/accuracy", 0.65)
    tracker.close("FINISHED")
    after = only_run(store)[1].info
    assert (after.status, after.end_time) == ("FAILED", ended.end_time)
    # The machine went down in the middle of the training, and now it is evaluated.
    TrackedRun.load(run_dir).update(status="RUNNING", ended_ms=None)
    tracker = add(run_dir, store)
    tracker.curve_point(2e12, "mr/accuracy", 0.66)
    tracker.close("FINISHED")
    assert only_run(store)[1].info.status == "KILLED"
    other = tmp_path / "never tracked"
    other.mkdir()
    tracker = add(other, store)
    tracker.curve_point(1e12, "mr/accuracy", 0.65)
    tracker.close("FINISHED")
    assert TrackedRun.load(other).state.status == "FINISHED"


def test_the_machine_is_looked_at_while_a_run_is_tracked(
    tmp_path, store, start, log_steps, history
):
    run_dir = tmp_path / "run"
    tracker = start(run_dir, store, sample_seconds=1.0)
    for step in range(1, 25):
        log_steps(tracker, [step])
        time.sleep(0.1)
    tracker.close("FINISHED")
    records = [r for r in read_records(run_dir / "metrics.jsonl") if isinstance(r, SystemRecord)]
    assert len(records) >= 3
    assert all(0 <= r.measured["cpu_utilization_percentage"] <= 100 for r in records)
    assert records[0].measured["system_memory_usage_megabytes"] > 100
    sent = history(store, "system/disk_available_megabytes")
    assert [step for step, _ in sent] == [round(1000 * r.time) for r in records]
    assert all(value > 0 for _, value in sent)


def test_gpus_are_looked_at_where_there_are_some(tmp_path, monkeypatch, start):
    """A stand-in for NVIDIA's library, which needs a GPU: that its units become MLflow's."""
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda number: number,
        nvmlDeviceGetMemoryInfo=lambda number: SimpleNamespace(used=20e9, total=80e9),
        nvmlDeviceGetUtilizationRates=lambda number: SimpleNamespace(gpu=90 + number),
        nvmlDeviceGetPowerUsage=lambda number: 350_000,
        nvmlDeviceGetEnforcedPowerLimit=lambda number: 700_000,
        NVMLError=RuntimeError,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(gpu_monitor, "pynvml", nvml, raising=False)
    tracker = start(tmp_path / "run", "off", sample_seconds=60.0)
    tracker.close("FINISHED")
    (record,) = read_records(tmp_path / "run" / "metrics.jsonl")
    gpus = {key: value for key, value in record.measured.items() if key.startswith("gpu_1")}
    assert gpus == {
        "gpu_1_utilization_percentage": 91.0,
        "gpu_1_memory_usage_megabytes": 20_000.0,
        "gpu_1_memory_usage_percentage": 25.0,
        "gpu_1_power_usage_watts": 350.0,
        "gpu_1_power_usage_percentage": 50.0,
    }


def test_a_rollback_replaces_the_steps_that_are_trained_again(
    tmp_path, store, start, log_steps, history
):
    run_dir = tmp_path / "run"
    tracker = start(run_dir, store)
    log_steps(tracker, range(1, 11))
    time.sleep(0.01)
    tracker.rollback("nan", 6, {"step": 10, "first_sequence": 72, "loss": float("nan")})
    time.sleep(0.01)
    for step in range(7, 13):
        tracker.log(step, step * 2e9, {"loss": -1.0})
    tracker.close("FINISHED")
    sync(run_dir)

    steps = [r.step for r in read_records(run_dir / "metrics.jsonl") if isinstance(r, StepRecord)]
    assert steps == list(range(1, 13))
    sent = [step for step, value in history(store, "loss") if value == -1.0]
    assert sorted(sent) == list(range(7, 13))
    assert history(store, "training/guards/nan_rollback/first_sequence") == [(7, 72.0)]


def test_a_resumed_run_continues_the_same_mlflow_run(
    tmp_path, store, start, log_steps, only_run, history
):
    run_dir = tmp_path / "run"
    tracker = start(run_dir, store)
    log_steps(tracker, range(1, 31))
    tracker.close("KILLED")
    assert only_run(store)[1].info.status == "KILLED"
    first = only_run(store)[1].info.run_id

    # Steps 21..30 are computed again, to the values they had.
    params = {"model": {"layers": 3}, "seed": 0, "extra": 1}
    tracker = start(run_dir, store, resume_step=20, params=params)
    log_steps(tracker, range(21, 41))
    tracker.close("FINISHED")
    run = only_run(store)[1]
    assert (run.info.run_id, run.info.status) == (first, "FINISHED")
    assert run.data.params == {"model.layers": "3", "seed": "0", "extra": "1"}
    assert Counter(step for step, _ in history(store, "loss")) == Counter(range(1, 41))
    records = list(read_records(run_dir / "metrics.jsonl"))
    assert [r.step for r in records if isinstance(r, StepRecord)] == list(range(1, 41))
    (restart,) = (r for r in records if isinstance(r, EventRecord))
    assert (restart.event, restart.at, restart.facts) == ("restart", 21, {"step": 30.0})


def test_a_dead_server_costs_nothing_and_sync_delivers_later(
    tmp_path, store, start, log_steps, only_run, history
):
    run_dir = tmp_path / "run"
    began = time.monotonic()
    tracker = start(run_dir, DEAD)
    slowest = 0.0
    for step in range(1, 201):
        before = time.monotonic()
        log_steps(tracker, [step])
        slowest = max(slowest, time.monotonic() - before)
    tracker.close("FINISHED")
    assert slowest < 0.5
    assert time.monotonic() - began < 20
    with pytest.raises(TransientError, match="could not deliver"):
        sync(run_dir)

    assert sync(run_dir, store) == 600  # loss, rate and flops of 200 steps
    assert sync(run_dir) == 0
    assert sorted(history(store, "loss")) == [(s, 10.0 / s) for s in range(1, 201)]
    assert only_run(store)[1].info.status == "FINISHED"


def test_an_answer_that_got_lost_does_not_double_anything(
    tmp_path, store, monkeypatch, start, log_steps, history
):
    run_dir = tmp_path / "run"
    tracker = start(run_dir, DEAD)
    log_steps(tracker, range(1, 11))
    tracker.close("FINISHED")

    sent: Counter[tuple[str, int]] = Counter()
    real = MlflowClient.log_batch

    def carried_out_but_unanswered(self, run_id, metrics=(), **rest):
        real(self, run_id, metrics=metrics, **rest)
        sent.update((m.key, m.step) for m in metrics)
        if metrics:
            raise ConnectionError("connection reset")

    delivery = Delivery(run_dir, TrackedRun.load(run_dir, store))
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", carried_out_but_unanswered)
        with pytest.raises(ConnectionError):
            delivery.deliver()
    assert set(sent.values()) == {1}
    assert len(sent) == 30
    # The server has them although this side was told otherwise: nothing is left to send.
    assert delivery.deliver() == 0
    assert Counter(step for step, _ in history(store, "loss")) == Counter(range(1, 11))


def test_a_lost_position_does_not_double_anything(tmp_path, store, start, log_steps):
    run_dir = tmp_path / "run"
    tracker = start(run_dir, store)
    log_steps(tracker, range(1, 6))
    tracker.curve_point(1e12, "mr/accuracy", 0.5)
    tracker.close("FINISHED")
    (run_dir / "mlflow_cursor.json").unlink()
    assert sync(run_dir) == 0


def test_a_curve_that_is_measured_again_is_delivered_again(tmp_path, store, start, history):
    run_dir = tmp_path / "run"
    for value in (0.5, 0.6, 0.6):
        tracker = start(run_dir, store)
        tracker.curve_point(1e12, "mr/accuracy", value)
        tracker.close("FINISHED")
    assert sorted(history(store, "finetuned/mr/accuracy")) == [(1000, 0.5), (1000, 0.6)]


def test_sync_marks_a_run_that_died_silently(tmp_path, store, only_run, history):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    described = RunState(tracking_uri=store, experiment="pretraining", run_name="tiny")
    TrackedRun.open(run_dir, described)
    (run_dir / "metrics.jsonl").write_text(
        '{"step":1,"time":1.0,"flops":0.0,"values":{"loss":2.0}}\n{"step":2,"ti'
    )
    assert sync(run_dir) == 2
    assert only_run(store)[1].info.status == "KILLED"
    assert history(store, "loss") == [(1, 2.0)]


def test_two_processes_cannot_track_one_run(tmp_path, start):
    run_dir = tmp_path / "run"
    tracker = start(run_dir, "off")
    with pytest.raises(UserError, match="tracked by a running process"):
        start(run_dir, "off", resume_step=0)
    tracker.close("FINISHED")
    start(run_dir, "off", resume_step=0).close("FINISHED")


def test_off_keeps_the_file_and_touches_no_mlflow(tmp_path, start, log_steps):
    run_dir = tmp_path / "run"
    tracker = start(run_dir, "off")
    log_steps(tracker, [1])
    tracker.flush()
    tracker.close("FINISHED")
    assert [r.step for r in read_records(run_dir / "metrics.jsonl")] == [1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]
    with pytest.raises(AbsentError, match="with MLflow tracking"):
        sync(run_dir)


def test_other_ranks_write_nothing(tmp_path):
    tracker = open_tracker(
        tmp_path / "run",
        enabled=False,
        experiment="e",
        run_name="r",
        tracking_uri=None,
        params={},
        tags={},
        resume_step=0,
    )
    tracker.log(1, 1.0, {"loss": 1.0})
    tracker.curve_point(1.0, "a", 1.0)
    tracker.artifact(tmp_path)
    tracker.flush()
    tracker.close("FINISHED")
    assert list(tmp_path.iterdir()) == []


def test_where_a_run_is_tracked(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run_dir = tmp_path / "runs" / "tiny"
    run_dir.mkdir(parents=True)
    assert resolve_uri(run_dir, None) == f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert resolve_uri(run_dir, None) == "http://tracking:5000"
    assert resolve_uri(run_dir, "off") == "off"
    for unusable in ("./mlruns", "file:///tmp/mlruns"):
        with pytest.raises(UserError, match="plain folders"):
            resolve_uri(run_dir, unusable)
    with pytest.raises(UserError, match="create it first"):
        resolve_uri(run_dir, f"sqlite:///{tmp_path / 'nowhere' / 'm.db'}")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    for folder in ("which?", "x%41"):  # MLflow would make its database elsewhere
        with pytest.raises(UserError, match=r"would look elsewhere; .* tracking\.uri, or off"):
            resolve_uri(tmp_path / folder / "run", None)
    assert resolve_uri(tmp_path / "100% ü#" / "run", None).endswith("/100% ü#/mlflow.db")


def test_evaluation_reaches_the_run_of_a_training_that_goes_on(
    store, tmp_path, monkeypatch, start, add, log_steps, only_run, history
):
    run_dir = tmp_path / "run"
    training = start(run_dir, store, resume_step=0)
    log_steps(training, [1, 2])
    picture = tmp_path / "curve.png"
    picture.write_bytes(b"picture")
    for value in (0.7, 0.8):
        evaluation = add(run_dir, store)
        evaluation.curve_point(4e9, "sst2/accuracy", value)
        evaluation.artifact(picture)
        evaluation.close("FINISHED" if value == 0.7 else "FAILED")
    monkeypatch.setattr("convbert.pretrain.tracking.tracker.INBOX_SECONDS", 0.0)
    log_steps(training, [3])
    assert [r.value for r in read_records(run_dir / "metrics.jsonl") if hasattr(r, "curve")] == [
        0.7
    ]
    with pytest.raises(UserError, match="tracked by a running process"):
        start(run_dir, store, resume_step=0)
    training.close("FINISHED")
    assert history(store, "finetuned/sst2/accuracy") == [(4, 0.7)]
    client, run = only_run(store)
    assert run.info.status == "FINISHED"
    assert [a.path for a in client.list_artifacts(run.info.run_id)] == ["curve.png"]


def test_evaluation_that_ends_after_the_training_delivers_itself(
    store, tmp_path, start, add, log_steps, history
):
    run_dir = tmp_path / "run"
    training = start(run_dir, store, resume_step=0)
    log_steps(training, [1])
    evaluation = add(run_dir, store)
    training.close("FINISHED")
    evaluation.curve_point(2e9, "sst2/accuracy", 0.9)
    evaluation.close("FINISHED")
    assert history(store, "finetuned/sst2/accuracy") == [(2, 0.9)]
    assert sync(run_dir) == 0


def test_what_is_handed_in_while_the_other_process_ends_is_not_left_behind(
    store, tmp_path, monkeypatch, start, add, history
):
    run_dir = tmp_path / "run"
    start(run_dir, store, resume_step=0).close("FINISHED")
    first, second = add(run_dir, store), add(run_dir, store)
    first.curve_point(4e9, "sst2/accuracy", 0.7)
    second.curve_point(8e9, "sst2/accuracy", 0.8)
    finish = Delivery.finish

    def hand_in_late(delivery) -> None:  # the inbox was emptied, the run is not released yet
        monkeypatch.setattr(Delivery, "finish", finish)
        second.close("FINISHED")
        assert inbox(run_dir)
        finish(delivery)

    monkeypatch.setattr(Delivery, "finish", hand_in_late)
    first.close("FINISHED")
    assert history(store, "finetuned/sst2/accuracy") == [(4, 0.7), (8, 0.8)]
    assert not inbox(run_dir)
