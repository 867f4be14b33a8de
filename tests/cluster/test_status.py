"""What status shows when the scheduler remembers a job, has forgotten it, or is not there."""

import json
import math
import stat
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from convbert.cluster import scheduler
from convbert.cluster.records import Attempt, JobRecords
from convbert.cluster.scheduler import Job, parse_duration
from convbert.cluster.status import overview, run_status
from convbert.data_pipeline.digests import file_sha256
from convbert.pretrain.tracking.records import CurvePoint, StepRecord, encode


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "checkpoints" / "step-00000040").mkdir(parents=True)
    settings = {"steps": 100, "schedule": {"warmup_steps": 1}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    values = {"loss/total": 9.5, "tokens": 2e6, "speed/step_seconds": 2.0}
    lines = encode(StepRecord(50, 1.0, 1.0, values)) + encode(CurvePoint("x", 1.0, 1.0, 0.5))
    (folder / "metrics.jsonl").write_bytes(lines + b'{"step": 51, "val')
    records = JobRecords(folder)
    records.submitted("7", "pretrain", folder / "slurm" / "7.log")
    ended = Attempt(
        job="7", restart=0, nodes=["n1"], begun=1, step=0, ended=2, end_step=40, outcome="crashed",
        failed_nodes=["n1"],
    )  # fmt: skip
    records.note(ended)
    return folder


def test_running_job(run: Path) -> None:
    jobs = {"7": Job("7", "RUNNING", "None", "n[1-2]", 3600.0)}
    found = run_status(run, ["7"], jobs)
    assert (found.state, found.step, found.steps) == ("running (n[1-2])", 50, 100)
    assert (found.seconds_to_end, found.seconds_to_limit) == (100.0, 3600.0)
    assert found.checkpoint == 40
    waiting = run_status(run, ["7"], {"7": Job("7", "PENDING", "Resources")})
    assert waiting.state == "pending (Resources)"


def test_loss_that_is_not_a_number_is_shown_as_such(run: Path) -> None:
    with (run / "metrics.jsonl").open("wb") as file:
        file.write(encode(StepRecord(51, 2.0, 1.0, {"loss/total": math.nan, "tokens": math.inf})))
    shown = {column.header: next(iter(column.cells)) for column in overview([run]).columns}
    assert (shown["loss"], shown["tokens"]) == ("nan", "inf")


def test_of_a_chain_the_running_job_is_shown(run: Path) -> None:
    jobs = {
        "7": Job("7", "COMPLETED"),
        "8": Job("8", "RUNNING", nodes="n3"),
        "9": Job("9", "PENDING"),
    }
    assert run_status(run, ["7", "8", "9"], jobs).job == "8"


def test_forgotten_job_is_known_from_its_records(run: Path) -> None:
    assert run_status(run, ["7"], {}).state == "crashed (n1)"
    JobRecords(run).note(Attempt(job="8", restart=0, nodes=["n1"], begun=3, step=40))
    assert run_status(run, ["7", "8"], {"8": Job("8", "OUT_OF_MEMORY")}).state == "out of memory"
    assert run_status(run, ["7", "8"], {}).state == "lost: node failure or killed"
    last = run / "checkpoints" / "step-00000100"
    last.mkdir()
    save_file({"x": np.zeros(3)}, last / "state.safetensors")
    manifest = {"format": 2, "step": 100, "trainer": {}, "shapes": {}, "fragments": {}}
    digest = file_sha256(last / "state.safetensors")
    manifest["sha256"] = {"state.safetensors": digest}
    (last / "manifest.json").write_text(json.dumps(manifest))
    assert run_status(run, ["7", "8"], {}).state == "finished"
    with (last / "state.safetensors").open("r+b") as file:
        file.truncate(file.seek(0, 2) - 1)
    state = run_status(run, ["7", "8"], {}).state
    assert state == "last checkpoint damaged: start it again"
    assert not JobRecords(run).finished()


def test_without_slurm_the_table_says_so(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(run))
    assert "squeue: not found" in str(overview([run]).caption)


def test_unreadable_run_does_not_hide_the_others(run: Path) -> None:
    broken = run.parent / "broken"
    broken.mkdir()
    (broken / "config.yaml").write_text("stepps: 100")
    states = list(overview([broken, run]).columns[1].cells)
    assert states[0].startswith("unreadable: ")
    assert "stepps: unknown key" in states[0]
    assert states[1] == "crashed (n1)"


def program(folder: Path, name: str, output: str, code: int = 0) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\ncat <<'E'\n{output}\nE\nexit {code}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_queue_and_accounting_are_read_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As squeue and sacct of SLURM 22.05 print them.
    queue = "9|RUNNING|None|node[0-1]|1-02:03:04\n12_1|PENDING|Resources||5:00\n"
    queue += "12_0|RUNNING|None|node2|4:30"
    program(tmp_path, "squeue", queue)
    program(tmp_path, "sacct", "5|CANCELLED by 1000|node1\n6|NODE_FAIL|node1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = scheduler.jobs(["5", "6", "9", "12_0", "12_1", "77"])
    assert {k: v.state for k, v in found.items()} == {
        "5": "CANCELLED",
        "6": "NODE_FAIL",
        "9": "RUNNING",
        "12_0": "RUNNING",
        "12_1": "PENDING",
    }
    assert found["9"].seconds_left == 93_784
    program(tmp_path, "sacct", "Slurm accounting storage is disabled", code=1)
    assert set(scheduler.jobs(["5", "9"])) == {"9"}


def test_durations() -> None:
    assert parse_duration("30") == 30
    assert parse_duration("2:03") == 123
    assert parse_duration("1-00:00:10") == 86_410
    assert parse_duration("UNLIMITED") is None
