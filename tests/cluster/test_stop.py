"""`convbert stop`: which jobs it ends and how, and what keeps them from coming back."""

import io
import json
import os
import shutil
import time
from pathlib import Path

import pytest
import yaml

from convbert.cluster import attempt
from convbert.cluster.follow import Evaluation, follow
from convbert.cluster.records import Attempt, JobRecords
from convbert.cluster.site import load_site
from convbert.cluster.stop import stop
from convbert.models.errors import AbsentError, UserError
from convbert.pretrain.run.exit_codes import NOTHING_LEFT


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with a permanent checkpoint, and stand-ins for SLURM's commands."""
    for name, line in {
        "squeue": f"cat {tmp_path}/queue",
        "sacct": "exit 1",
        "scancel": f'echo "$*" >> {tmp_path}/calls; [ "$1" != 66 ] || {{ echo no >&2; exit 1; }}',
        "sbatch": f"echo . >> {tmp_path}/queued; echo 9",
    }.items():
        path = tmp_path / "tools" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\n{line}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/tools:{os.environ['PATH']}")
    folder = tmp_path / "run"
    (folder / "checkpoints" / "step-00000010").mkdir(parents=True)
    (folder / "config.yaml").write_text("{steps: 100, schedule: {warmup_steps: 1}}\n")
    return folder


def queued(run: Path, *jobs: str, recorded: bool = True) -> None:
    """Put jobs into the queue, ``ID STATE``, and into the run's records."""
    lines = []
    for job in jobs:
        number, state = job.split()
        lines.append(f"{number}|{state}|None|node0|9:00|run|{run}\n")
        if recorded:
            JobRecords(run).submitted(number, "pretrain", run / "slurm" / f"{number}.log")
    (run.parent / "queue").write_text("".join(lines))


def calls(run: Path) -> list[str]:
    return (run.parent / "calls").read_text().splitlines()


def test_all_jobs_are_stopped_those_that_wait_first(run: Path) -> None:
    queued(run, "71 RUNNING", "72 RUNNING", "73 PENDING", "74 COMPLETING", "75 COMPLETED")
    lines = list(stop(run))
    assert calls(run) == [
        "73",  # of a chain, it would start when the one before it ends
        "--batch --signal=USR1 71",
        "--batch --signal=USR1 72",
    ]
    assert [line.split(":")[0] for line in lines] == ["job 73", "job 71", "job 72", "job 74"]
    records = JobRecords(run)
    assert [j for j in range(70, 77) if records.stop_requested(str(j))] == [71, 72, 73, 74]


def test_a_copy_of_a_run_has_none_of_its_jobs(run: Path) -> None:
    queued(run, "71 RUNNING", "73 PENDING")
    copy = shutil.copytree(run, run.with_name("copy"))
    assert JobRecords(copy).submissions() == []
    with pytest.raises(UserError):
        list(stop(copy))
    assert not (run.parent / "calls").exists()
    moved = run.rename(run.with_name("moved"))
    assert [s.job for s in JobRecords(moved).submissions()] == ["71", "73"]


def test_one_refusal_does_not_keep_the_other_jobs_going(run: Path) -> None:
    queued(run, "66 PENDING", "71 RUNNING")
    with pytest.raises(UserError, match="scancel 66: no"):
        list(stop(run))
    assert calls(run) == ["66", "--batch --signal=USR1 71"]


def test_job_that_was_submitted_by_hand_is_stopped(run: Path) -> None:
    queued(run, "81 PENDING", recorded=False)
    assert list(stop(run)) == ["job 81: was pending, cancelled"]


def test_runs_of_a_sweep_are_stopped_together(run: Path) -> None:
    queued(run, "12_0 RUNNING")
    assert [line.split(":")[0] for line in stop(run.parent)] == ["job 12_0"]
    queued(run)
    with pytest.raises(AbsentError, match="none of its jobs"):
        list(stop(run))


def test_evaluations_are_cancelled_and_queued_again_later(run: Path) -> None:
    (run / "slurm").mkdir()
    (run / "slurm" / "evaluated.json").write_text(json.dumps({"5": "20", "10": "30"}))
    queued(run, "30_0 RUNNING", "30_1 PENDING", "20_0 COMPLETED", recorded=False)
    lines = list(stop(run))
    assert calls(run) == ["30_0", "30_1"]
    assert "evaluation of step 10" in lines[0]
    assert json.loads((run / "slurm" / "evaluated.json").read_text()) == {"5": "20"}


def test_job_that_was_asked_to_stop_queues_no_evaluations(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"steps": 10, "schedule": {"warmup_steps": 1}}
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    load_site("local").keep(run)
    Evaluation(tasks={"mine.yaml": run}).save(run)
    JobRecords(run).request_stop("71")
    monkeypatch.setenv("SLURM_JOB_ID", "71")
    assert follow(run) == []
    monkeypatch.delenv("SLURM_JOB_ID")
    assert follow(run) == ["9"]


def event(run: Path, name: str) -> int:
    """Do what the script of a job calls."""
    options = ["--run", str(run), "--log", str(run / "slurm" / "7.log"), "--retries", "2"]
    return attempt.main([name, *options])


@pytest.fixture
def _job_7(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "node0")


@pytest.mark.usefixtures("_job_7")
def test_stopped_job_that_starts_again_ends_at_once(run: Path) -> None:
    records = JobRecords(run)
    records.submitted("7", "pretrain", run / "slurm" / "7.log")
    records.request_stop("7")  # it was put back into the queue at the same moment
    assert event(run, "begin") == NOTHING_LEFT
    assert records.attempts() == []


@pytest.mark.usefixtures("_job_7")
def test_number_that_comes_again_inherits_nothing(run: Path) -> None:
    records = JobRecords(run)
    old = Attempt(job="7", restart=0, nodes=["n"], begun=1.0, step=10, outcome="crashed")
    for restart in range(3):
        ended = {"restart": restart, "begun": 1.0 + restart, "ended": 2.0, "end_step": 10}
        records.note(old.model_copy(update=ended))
    records.request_stop("7")
    records.submitted("7", "pretrain", run / "slurm" / "7.log")
    assert not records.stop_requested("7")
    records.request_stop("7")
    os.utime(run / "slurm" / "stops" / "7", (time.time() - 2 * 86_400,) * 2)
    assert event(run, "begin") == 1  # three crashes of the same number, as far as it knows
    records.note(old.model_copy(update={"begun": 100.0, "end_step": 20, "outcome": "saved"}))
    assert [a.begun for a in records.attempts("7")] == [100.0]
    assert event(run, "begin") == 0


@pytest.mark.usefixtures("_job_7")
def test_successor_goes_on_counting_failures(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records = JobRecords(run)
    for job, successor in (("5", "6"), ("6", "7")):
        failed = Attempt(job=job, restart=0, nodes=["n"], begun=float(job), step=10, end_step=10)
        ended = {"outcome": "crashed", "successor": successor, "ended": 1.0}
        records.note(failed.model_copy(update=ended))
    assert [a.job for a in records.attempts("7")] == ["5", "6"]
    assert event(run, "begin") == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("1 0\n"))
    assert event(run, "end") == 0
    shown = capsys.readouterr()
    assert shown.out == "end\n"
    assert "3 attempts without a new checkpoint (crashed, crashed, crashed)" in shown.err
    # `sbatch` was called by hand: the job's log is known all the same
    assert [(s.job, s.log) for s in records.submissions()] == [("7", "slurm/7.log")]
