"""Faults that a run meets while it trains: what the policy says is done, recorded, and exact."""

import json
import math
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from forked import Zygote, wait_for
from mlflow import MlflowClient
from safetensors.torch import load_file, save_file

from convbert.data_pipeline.digests import file_sha256
from convbert.pretrain.run import metric_names
from convbert.pretrain.run.checkpoint_manifest import checkpoint_directory, verify
from convbert.pretrain.run.claim import claim_for_training
from convbert.pretrain.run.exit_codes import HUNG, STOPPED, TRANSIENT
from convbert.pretrain.run.preparation import prepare
from convbert.pretrain.tracking.records import SystemRecord, encode
from convbert.pretrain.tracking.stopped_run import sync

pytestmark = pytest.mark.integration


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def events(run: Path) -> list[dict[str, Any]]:
    return [r for r in records(run) if "event" in r]


def batches(run: Path) -> dict[int, int]:
    """Return the global batch that each update read (global_batch is 8)."""
    steps = [r for r in records(run) if "step" in r]
    return {r["step"]: int(r["values"]["data/first_sequence"]) // 8 for r in steps}


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_spoiled_batch_is_left_out_and_recorded(
    zygote: Zygote, read_losses, tmp_path: Path, where: str
) -> None:
    run = tmp_path / "run"
    fault = {"poison": {"batches": [5], "where": where, "on": 1}}
    zygote.finish(run, f"deepspeed={'zero1' if where == 'loss' else 'zero0'}", faults=fault)

    (event,) = events(run)
    assert (event["event"], event["action"], event["at"]) == ("nan", "skip", 6)
    assert (event["facts"]["first_sequence"], event["facts"]["last_sequence"]) == (40, 48)
    assert batches(run) == {step: step - 1 for step in range(1, 13)}
    losses = read_losses(run)
    assert all(math.isfinite(float(losses[step][0])) for step in losses if step != 6)


@pytest.mark.slow
def test_nan_in_a_batch_a_gradient_and_a_checkpoint_is_in_the_file_and_in_mlflow(
    zygote: Zygote, tmp_path: Path
) -> None:
    run, uri = tmp_path / "run", f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}"
    fault = {"poison": {"batches": [2], "where": "loss", "on": 0}}
    zygote.finish(run, uri, "checkpoint.keep_last=3", faults=fault)
    folder = checkpoint_directory(run / "checkpoints", 12)
    spoil(folder)
    fault = {"poison": {"batches": [9], "where": "gradient", "on": 1}}
    zygote.finish(run, uri, "checkpoint.keep_last=3", faults=fault)
    assert "holds values that are not finite" in (run / "output.log").read_text()
    verify(folder)  # written anew
    sync(run)

    expected = {
        ("nan", "skip", 3): ("first_sequence", 16.0),
        ("checkpoint_damaged", "skip", 8): ("checkpoint", 12.0),
        ("restart", "repeat", 9): ("step", 12.0),
        ("nan", "skip", 10): ("first_sequence", 72.0),
    }
    assert {(e["event"], e["action"], e["at"]) for e in events(run)} == set(expected)
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'convbert-pretraining'")
    (tracked,) = client.search_runs([experiment.experiment_id])
    for (kind, action, at), (fact, value) in expected.items():
        name = f"training/guards/{kind}_{action}/{fact}"
        history = client.get_metric_history(tracked.info.run_id, name)
        assert [m.value for m in history if m.step == at] == [value]


def spoil(folder: Path) -> None:
    """Put NaN into a moment and make the digest match."""
    file, manifest = folder / "state-00000.safetensors", folder / "manifest.json"
    named = load_file(file)
    next(t for key, t in named.items() if key.startswith("exp_avg|"))[3] = math.nan
    save_file(named, file)
    record = json.loads(manifest.read_text())
    record["sha256"][file.name] = file_sha256(file)
    manifest.write_text(json.dumps(record))


def test_a_rollback_trains_on_without_the_span_also_after_a_kill_and_elsewhere(
    zygote: Zygote, read_losses, tmp_path: Path
) -> None:
    settings = ("guards.on_nan=rollback", "guards.rollback_span=2", "micro_batch=4")
    fault = {"poison": {"batches": [7], "where": "loss", "on": 0}}
    run = tmp_path / "run"
    zygote.finish(run, *settings, faults=fault)
    # Rolled back from update 8 to the checkpoint of update 4; batches 6 and 7 are never trained on.
    (event,) = events(run)
    assert (event["action"], event["at"], event["facts"]["step"]) == ("rollback", 5, 8)
    assert (event["facts"]["first_sequence"], event["facts"]["last_sequence"]) == (48, 64)
    expected = dict(enumerate([0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13], start=1))
    assert batches(run) == expected

    # The same from a checkpoint in between, on one process and another ZeRO stage.
    other = tmp_path / "other"
    zygote.finish(other, *settings, "checkpoint.keep_last=3", faults=fault)
    for step in (12,):
        (other / "checkpoints" / f"step-{step:08d}" / "manifest.json").unlink()
    zygote.finish(other, *settings, "deepspeed=zero3", processes=1, faults=fault)
    assert batches(other) == expected
    whole, elastic = read_losses(run), read_losses(other)
    for step in whole:
        assert elastic[step] == pytest.approx(whole[step], rel=1e-4)


@pytest.mark.parametrize(("precision", "policy"), [("fp32", "rollback"), ("fp16", "stop")])
def test_a_generator_whose_logits_are_nan_is_an_event(
    zygote: Zygote, tmp_path: Path, precision: str, policy: str
) -> None:
    settings = ("optimizer.learning_rate=1e30", "schedule.warmup_steps=0", "checkpoint.every=1")
    started = zygote.start(
        tmp_path, *settings, f"precision={precision}", f"guards.on_nan={policy}", processes=1
    )
    assert started.wait() == [2]
    *_, last = started.log.read_text().splitlines()
    assert "nan (loss nan" in last
    found = [e["action"] for e in events(tmp_path) if e["event"] == "nan"]
    assert found == (["rollback", "stop"] if policy == "rollback" else ["stop"])
    (newest, *_) = sorted((tmp_path / "checkpoints").glob("step-*/manifest.json"), reverse=True)
    measured = json.loads(newest.read_text())["trainer"]["metrics"]
    # What an infinite norm of the parameters has left of it is null, in rollback's case.
    assert sorted(measured) == metric_names.of_updates("rtd")


@pytest.mark.slow
def test_parameters_that_are_not_finite_are_not_written_and_the_rate_is_named(
    zygote: Zygote, tmp_path: Path
) -> None:
    settings = ("optimizer.learning_rate=1e39", "schedule.warmup_steps=0", "steps=1")
    started = zygote.start(tmp_path, *settings, "schedule.name=constant", processes=1)
    assert started.wait() == [2]
    *_, last = started.log.read_text().splitlines()
    assert "holds values that are not finite" in last
    assert "lower optimizer.learning_rate" in last
    assert not list((tmp_path / "checkpoints").glob("step-00000001"))


def test_a_spike_is_left_out(zygote: Zygote, tmp_path: Path) -> None:
    fault = {"poison": {"batches": [9], "where": "scale", "on": 1, "factor": 20.0}}
    run = tmp_path / "run"
    zygote.finish(run, "guards.on_spike=skip", "guards.spike_window=8", faults=fault)
    (event,) = events(run)
    assert (event["event"], event["action"], event["at"]) == ("spike", "skip", 10)
    assert event["facts"]["score"] > 10


def test_too_many_events_stop_all_processes(zygote: Zygote, tmp_path: Path) -> None:
    fault = {"poison": {"batches": [3, 4, 5], "where": "gradient", "on": 1}}
    started = zygote.start(tmp_path, "guards.max_consecutive=2", faults=fault)
    assert started.wait() == [2, 2]
    assert "guards.max_consecutive=2 is passed" in started.log.read_text()
    assert [e["action"] for e in events(tmp_path)] == ["skip", "skip", "stop"]


def test_a_process_with_other_parameters_is_found(zygote: Zygote, tmp_path: Path) -> None:
    fault = {"flip_parameter": {"on": 1, "step": 6}}
    settings = ("deepspeed=zero0", "guards.compare_every=2")
    started = zygote.start(tmp_path, *settings, faults=fault)
    assert started.wait() == [2, 2]
    text = started.log.read_text()
    assert "step 6: the processes have diverged" in text
    assert "'model.discriminator.embeddings.word.weight' than the rest" in text


def test_a_hang_names_the_late_process_and_dumps_all_stacks(zygote: Zygote, tmp_path: Path) -> None:
    fault = {"hang": {"on": 1, "step": 6}}
    started = zygote.start(tmp_path, "guards.hang_seconds=8", faults=fault)
    assert HUNG in started.wait()
    assert "is late, at 'update' of step 5" in started.log.read_text()
    stacks = [(tmp_path / "hang" / f"rank-0000{rank}.txt").read_text() for rank in (0, 1)]
    assert "time.sleep" in stacks[1] or "faults.py" in stacks[1]
    assert "all_reduce" in stacks[0]


def test_a_disk_that_fills_with_metrics_ends_in_a_checkpoint_and_is_tried_again(
    zygote: Zygote, read_losses, tmp_path: Path
) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    run.mkdir()
    log = run / "metrics.jsonl"
    # Longer than all other files, so that it is the first to meet the limit.
    log.write_bytes(encode(SystemRecord("node", 0.0, {f"m{n}": 1.0 for n in range(400)})) * 400)
    limit = {"limit_files": {"step": 3, "size": log.stat().st_size + 4000}}
    started = zygote.start(run, "checkpoint.every=12", processes=1, faults=limit)
    assert started.wait() == [TRANSIENT]
    *_, last = started.log.read_text().splitlines()
    assert re.search(
        r" ERROR \S+metrics.jsonl: cannot be written \(File too large\); update \d+ is", last
    )
    assert "Traceback" not in started.log.read_text()
    (folder,) = (run / "checkpoints").glob("step-*")
    assert int(folder.name[5:]) in range(3, 8)
    zygote.finish(run, "checkpoint.every=12", processes=1)
    zygote.finish(whole, "checkpoint.every=12", processes=1)
    found, expected = read_losses(run), read_losses(whole)
    assert found.items() <= expected.items()
    assert set(range(int(folder.name[5:]) + 1, 13)) <= set(found)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_to_stop_saves_the_update_at_hand(
    zygote: Zygote, tmp_path: Path, number: int
) -> None:
    pace = {"pace": {"seconds": 0.1}}
    started = zygote.start(tmp_path, "steps=400", "checkpoint.every=400", processes=1, faults=pace)
    wait_for(lambda: "step 2/400" in started.log.read_text())
    started.kill(0, number)
    assert started.wait() == [STOPPED]
    assert len(list((tmp_path / "checkpoints").glob("step-*"))) == 1


def test_a_second_start_touches_nothing_of_a_running_training(
    zygote: Zygote, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    writing = run / "checkpoints" / ".tmp-step-00000004"
    prepare("tiny", zygote.settings, run, 1)
    writing.mkdir(parents=True)
    claim = claim_for_training(run)
    assert zygote.launch(run, processes=1).wait() == [TRANSIENT]
    assert writing.is_dir()
    claim.release()
    zygote.finish(run)
    assert not writing.exists()
