"""What status shows when the scheduler remembers a job, has forgotten it, or is not there."""

import json
import math
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file
from typer.testing import CliRunner

from convbert.cluster.jobs import RunJobs, current_log, jobs_of
from convbert.cluster.records import Attempt, JobRecords
from convbert.cluster.render import JobOptions
from convbert.cluster.scheduler import Job, parse_duration
from convbert.cluster.status import HEADINGS, overview, run_status, shown_at
from convbert.cluster.submit import require_idle
from convbert.data_pipeline.digests import file_sha256
from convbert.models.errors import AbsentError, UserError
from convbert.pretrain.cli import app
from convbert.pretrain.run.claim import claim_for_training
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


def test_status_shows_runs_at_any_depth_and_not_the_copies_that_mlflow_keeps(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = run.parent
    for place in ("runs/one", "runs/sweep/x0.5", "runs/mlartifacts/4f0c/artifacts"):
        (base / place).mkdir(parents=True)
        (base / place / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
    monkeypatch.chdir(base)
    shown = CliRunner().invoke(app, ["status", "--format", "json"])
    assert [row["run"] for row in json.loads(shown.stdout)["rows"]] == [
        "runs/one",
        "runs/sweep/x0.5",
    ]


def test_a_run_that_slurm_never_had_says_whether_it_trains_here(run: Path) -> None:
    (run / "slurm" / "jobs.jsonl").unlink()
    (run / "slurm" / "attempts.jsonl").unlink()
    claim = claim_for_training(run)
    assert run_status(run, RunJobs()).state == "training without SLURM"
    claim.release()
    assert run_status(run, RunJobs()).state == "not submitted, not training"


def test_running_job(run: Path) -> None:
    jobs = {"7": Job("7", "RUNNING", "None", "n[1-2]", 3600.0)}
    found = run_status(run, RunJobs([*jobs.values()]))
    assert (found.state, found.step, found.steps) == ("running (n[1-2])", 50, 100)
    assert (found.seconds_to_end, found.seconds_to_limit) == (100.0, 3600.0)
    assert found.checkpoint == 40
    waiting = run_status(run, RunJobs([Job("7", "PENDING", "Resources")]))
    assert waiting.state == "pending (Resources)"


def test_loss_that_is_not_a_number_is_shown_as_such(run: Path) -> None:
    with (run / "metrics.jsonl").open("wb") as file:
        file.write(encode(StepRecord(51, 2.0, 1.0, {"loss/total": math.nan, "tokens": math.inf})))
    shown = dict(zip(HEADINGS, overview([run])[0][0], strict=True))
    assert (shown["loss"], shown["tokens"]) == ("nan", "inf")


def test_evaluations_of_a_finished_run_do_not_hide_where_its_training_is(run: Path) -> None:
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b"\n" + encode(CurvePoint("x", 1.0, 1.0, 0.5)) * 3000)
    assert (run_status(run, RunJobs()).step, run_status(run, RunJobs()).values["tokens"]) == (
        50,
        2e6,
    )


def test_a_run_that_has_measured_nothing_yet_stands_at_its_checkpoint(run: Path) -> None:
    (run / "metrics.jsonl").unlink()
    assert run_status(run, RunJobs()).step == 40


def test_where_mlflow_shows_the_runs_is_said_once_below_them(run: Path) -> None:
    assert overview([run])[0][0][-1] == ""
    tracked = {"tracking_uri": "http://user:word@mlflow:5000", "experiment": "e", "run_name": "r"}
    tracked |= {"run_id": "4f0c", "experiment_id": "3", "status": "RUNNING"}
    (run / "mlflow.json").write_text(json.dumps(tracked))
    assert overview([run])[0][0][-1] == "RUNNING 4f0c"
    assert shown_at([run, run]) == [
        "curves in MLflow: http://mlflow:5000/#/experiments/3/runs?workflowType=machine_learning"
        "&viewStateShareKey=convbert&compareRunsMode=CHART",
        "runs in MLflow: http://mlflow:5000/#/experiments/3/runs?workflowType=machine_learning",
    ]


def test_of_a_chain_the_running_job_is_shown(run: Path) -> None:
    jobs = {
        "7": Job("7", "COMPLETED"),
        "8": Job("8", "RUNNING", nodes="n3"),
        "9": Job("9", "PENDING"),
    }
    assert run_status(run, RunJobs([*jobs.values()])).job == "8"


def test_forgotten_job_is_known_from_its_records(run: Path) -> None:
    assert run_status(run, RunJobs()).state == "crashed (n1)"
    JobRecords(run).note(Attempt(job="8", restart=0, nodes=["n1"], begun=3, step=40))
    assert run_status(run, RunJobs([Job("8", "OUT_OF_MEMORY")])).state == "out of memory"
    assert run_status(run, RunJobs()).state == "lost: node failure or killed"
    last = run / "checkpoints" / "step-00000100"
    last.mkdir()
    save_file({"x": np.zeros(3)}, last / "state.safetensors")
    manifest = {"format": 2, "step": 100, "trainer": {}, "shapes": {}, "fragments": {}}
    digest = file_sha256(last / "state.safetensors")
    manifest["sha256"] = {"state.safetensors": digest}
    (last / "manifest.json").write_text(json.dumps(manifest))
    assert run_status(run, RunJobs()).state == "finished"
    with (last / "state.safetensors").open("r+b") as file:
        file.truncate(file.seek(0, 2) - 1)
    state = run_status(run, RunJobs()).state
    assert state == "last checkpoint damaged: start it again"
    assert not JobRecords(run).finished()


def test_corpus_build_is_known_from_what_its_script_left(tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    records = JobRecords(out)
    assert run_status(out, RunJobs()).state == "no such directory"
    out.mkdir()
    assert run_status(out, RunJobs()).state == "no run, not submitted"
    records.submitted("7", "corpus", out / "slurm" / "7.log")
    assert run_status(out, RunJobs([Job("7", "PENDING", "Priority")])).state == "pending (Priority)"
    assert run_status(out, RunJobs([Job("7", "TIMEOUT")])).state == "timeout"
    assert run_status(out, RunJobs()).state == "submitted"
    (out / "slurm" / "7.log").touch()
    assert run_status(out, RunJobs()).state == "started: see the log"
    for left, state in (
        ("0", "finished"),
        ("stopped", "stopped on request"),
        ("1", "failed: see the log"),
    ):
        (out / "slurm" / "7.status").write_text(left + "\n")
        assert run_status(out, RunJobs([Job("7", "FAILED")])).state == state
        shown = dict(zip(HEADINGS, overview([out])[0][0], strict=True))
        assert (shown["state"], shown["step"], shown["checkpoint"]) == (state, "", "")
    records.submitted("8", "corpus", out / "slurm" / "8.log")
    assert run_status(out, RunJobs()).state == "submitted"


def test_job_that_was_cancelled_in_the_queue_is_not_shown_as_the_one_before(run: Path) -> None:
    assert run_status(run, RunJobs([Job("8", "CANCELLED")])).state == "cancelled"
    JobRecords(run).request_stop("8")
    assert run_status(run, RunJobs([Job("8", "CANCELLED")])).state == "stopped on request"
    assert run_status(run, RunJobs([Job("7", "FAILED")])).state == "crashed (n1)"


def test_refused_requeue_is_said(run: Path) -> None:
    records = JobRecords(run)
    (ended,) = records.attempts()
    changes = {"outcome": "saved", "failed_nodes": [], "requeue_refused": True}
    records.note(ended.model_copy(update=changes))
    state = run_status(run, RunJobs([Job("7", "FAILED")])).state
    assert state == "stopped with a checkpoint, but SLURM refused to requeue it: submit it again"
    records.note(ended.model_copy(update=changes | {"successor": "8"}))
    assert run_status(run, RunJobs()).state == "stopped with a checkpoint"
    assert (
        run_status(run, RunJobs([Job("8", "PENDING", "Dependency")])).state
        == "pending (Dependency)"
    )


def test_evaluations_are_counted_by_state(run: Path) -> None:
    folder = run / "slurm"
    (folder / "evaluated.json").write_text('{"10": "20", "20": "30", "40": "40"}')
    (folder / "evaluate-20_0.status").write_text("0\n")
    (folder / "evaluate-20_1.status").write_text("2\n")
    (folder / "evaluate-30_0.status").write_text("1\n")  # of an earlier start of the same task
    jobs = {"20": [Job("30_0", "RUNNING"), Job("30_1", "PENDING")]}
    shown = run_status(run, RunJobs([], jobs)).evaluations
    assert shown == "1 completed, 1 failed, 1 pending, 1 running, 1 unknown (step 40)"


def test_log_is_that_of_the_running_job(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = JobRecords(run)
    for job in ("8", "9"):
        records.submitted(job, "pretrain", run / "slurm" / f"{job}.log")
    program(tmp_path, "squeue", "8|RUNNING|None|node0|9:00\n9|PENDING|Dependency||9:00")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(AbsentError, match=r"9\.log: not there yet"):
        current_log(run)
    for job, written in (("8", 100), ("7", 200)):
        (run / "slurm" / f"{job}.log").touch()
        os.utime(run / "slurm" / f"{job}.log", (written, written))
    assert current_log(run).name == "8.log"
    program(tmp_path, "squeue", "", code=1)
    assert current_log(run).name == "7.log"  # the one that was written last
    (run / "slurm" / "evaluate-20_0.log").touch()
    assert current_log(run, "20_0").name == "evaluate-20_0.log"
    with pytest.raises(AbsentError, match=r"evaluate-77\.log: not there"):
        current_log(run, "77")
    with pytest.raises(AbsentError, match="is a sweep; name one of its runs: run"):
        current_log(run.parent)


def test_second_submission_of_a_run_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for state in ("RUNNING", "PENDING"):
        program(tmp_path, "squeue", f"7|{state}|None|node0|9:00")
        text = rf"has a job already: 7 \({state.lower()}\); .*--again"
        with pytest.raises(UserError, match=text):
            require_idle([run], JobOptions())
        require_idle([run], JobOptions(again=True))
        require_idle([run], JobOptions(dry_run=True))
    program(tmp_path, "squeue", "7|COMPLETED|None|node0|9:00")
    require_idle([run], JobOptions())


def test_without_slurm_the_table_says_so(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(run))
    assert overview([run])[1] == "without the queue: this machine has no squeue"


def test_a_queue_that_does_not_answer_is_told_in_one_line(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "squeue").write_text(
        "#!/bin/sh\n"
        "echo 'squeue: error: fetch_config: DNS SRV lookup failed' >&2\n"
        "echo 'squeue: fatal: Could not establish a configuration source' >&2\n"
        "exit 1\n"
    )
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    told = "without the queue: squeue: Could not establish a configuration source"
    assert overview([run])[1] == told
    shown = CliRunner().invoke(app, ["status", str(run)]).output.splitlines()
    assert shown[-1] == told


def test_the_queue_is_asked_once_for_the_users_own_jobs(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "squeue").write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\n')
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (run / "slurm" / "evaluated.json").write_text('{"10": "20"}')
    assert len(overview([run, run])[0]) == 2
    (line,) = (tmp_path / "asked").read_text().splitlines()
    assert f"--user={os.getuid()} " in line


def test_unreadable_run_does_not_hide_the_others(run: Path) -> None:
    broken = run.parent / "broken"
    broken.mkdir()
    (broken / "config.yaml").write_text("stepps: 100")
    states = [row[1] for row in overview([broken, run])[0]]
    assert states[0].startswith("unreadable: ")
    assert "stepps: unknown key" in states[0]
    assert states[1] == "crashed (n1)"


def program(folder: Path, name: str, output: str, code: int = 0) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\ncat <<'E'\n{output}\nE\nexit {code}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_queue_and_accounting_are_read_together(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As squeue and sacct of SLURM 22.05 print them.
    elsewhere = "job|/elsewhere"
    program(
        tmp_path,
        "squeue",
        f"9|RUNNING|None|node[0-1]|1-02:03:04|{elsewhere}\n12_1|PENDING|Resources||5:00|{elsewhere}\n"
        f"12_0|RUNNING|None|node2|4:30|{elsewhere}\n13|PENDING|None||4:30|run|{run}\n"
        f"14|RUNNING|None|node3|4:30|other|{run}\n15|RUNNING|None|node3|4:30|run|{run}\nx",
    )
    program(tmp_path, "sacct", "5|CANCELLED by 1000|node1\n7|NODE_FAIL|node1\n20_0|FAILED|node1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for job in ("5", "9", "12_0", "12_1", "77"):
        JobRecords(run).submitted(job, "pretrain", run / "slurm" / f"{job}.log")
    (run / "slurm" / "evaluated.json").write_text('{"10": "12", "20": "20", "30": "21"}')
    found = {job.id: job for job in jobs_of([run])[run].jobs}
    # 13 was submitted by hand, in a directory whose name has a line break 15; 14 is not of this run
    assert {k: v.state for k, v in found.items()} == {
        "5": "CANCELLED",
        "7": "NODE_FAIL",
        "9": "RUNNING",
        "12_0": "RUNNING",
        "12_1": "PENDING",
        "13": "PENDING",
        "15": "RUNNING",
    }
    assert found["9"].seconds_left == 93_784
    evaluations = jobs_of([run])[run].evaluations
    assert {step: [job.id for job in jobs] for step, jobs in evaluations.items()} == {
        "10": ["12_1", "12_0"],
        "20": ["20_0"],
        "30": [],
    }
    program(tmp_path, "sacct", "Slurm accounting storage is disabled", code=1)
    assert "7" not in {job.id for job in jobs_of([run])[run].jobs}


def test_durations() -> None:
    assert parse_duration("30") == 30
    assert parse_duration("2:03") == 123
    assert parse_duration("1-00:00:10") == 86_410
    assert parse_duration("UNLIMITED") is None
