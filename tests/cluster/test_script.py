"""The job script with stand-ins for SLURM's commands: what it does when srun ends in odd ways."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from convbert.cluster.preflight.node_report import NodeReport
from convbert.cluster.records import JobRecords
from convbert.cluster.render import JobOptions, render_pretraining
from convbert.cluster.site import PreflightLimits, load_site

FIT = {"wanted_gpus": 0, "shared_gib": {"/run": 100.0}, "shm_gib": 10.0}
TWO_NODES = JobOptions(nodes=2)
WAITED = FIT | {"waited": float(PreflightLimits().start_seconds)}

# What srun of SLURM 22.05 prints, and its status.
CANCELLED = """\
srun: Job step aborted: Waiting up to 32 seconds for job step to finish.
slurmstepd-node0: error: *** STEP 8.0 ON node0 CANCELLED AT 2026-11-27T20:02:45 ***
srun: error: node2: task 1: Killed
srun: error: node0: task 0: Killed
"""
TIME_LIMIT = """\
slurmstepd-node0: error: *** STEP 8.0 ON node0 CANCELLED AT 2026-11-27T20:06:11 DUE TO TIME LIMIT
srun: error: node2: task 1: Terminated
srun: error: node0: task 0: Terminated
srun: Force Terminated StepId=8.0
"""
NOT_STARTED = """\
srun: error: Task launch for StepId=8.0 failed on node node2: Job credential expired
srun: error: Application launch failed: Job credential expired
srun: Job step aborted
"""
PREEMPTED = """\
srun: error: node0: task 0: Terminated
srun: error: node2: task 1: Terminated
"""
BROKEN = "srun: error: node2: task 1: Exited with exit code 1\n"


def program(folder: Path, name: str, *lines: str) -> None:
    """Write a stand-in for a command."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("\n".join(["#!/bin/bash", *lines, ""]))
    path.chmod(0o755)


def run_script(
    run: Path,
    *srun: str,
    restart: int = 0,
    options: JobOptions = TWO_NODES,
    start: Path | None = None,
) -> str:
    """Run the script of a job on node0 and node2, in ``start`` or the run; return its log."""
    run.mkdir(exist_ok=True)
    tools = run / "tools"
    program(tools, "srun", *srun)
    program(tools, "scontrol", f'echo "$*" >> {run}/scontrol')
    program(tools, "sinfo", "printf 'node%s\\n' 0 1 2")
    script = run / "pretrain.sbatch"
    site = load_site("local").model_copy(update={"python": sys.executable})
    script.write_text(render_pretraining([run], site, options))
    variables = {
        "PATH": f"{tools}:/usr/bin:/bin",
        "SLURM_JOB_ID": "8",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_JOB_NODELIST": "node[0,2]",
        "SLURM_RESTART_COUNT": str(restart),
    }
    log = (start or run) / "slurm" / "8.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("a") as file:
        subprocess.run(
            ["bash", script],
            cwd=start or run,
            env={**os.environ, **variables},
            stdout=file,
            stderr=file,
            check=False,
            timeout=120,
        )
    return log.read_text()


def leaving(node: str, content: dict[str, object], restart: int = 0) -> str:
    """Return the shell's line that leaves a node's report."""
    folder = f"$RUN_DIR/slurm/preflight/8-{restart}"
    report = NodeReport.model_validate({"node": node} | content).model_dump_json()
    return f"mkdir -p {folder}; echo '{report}' > {folder}/{node}.json"


@pytest.mark.parametrize(
    ("shown", "status", "reports"),
    [
        (CANCELLED, 137, []),
        (CANCELLED, 137, ["node0"]),
        (TIME_LIMIT, 143, []),
        (NOT_STARTED, 167, []),
        (PREEMPTED, 143, ["node0", "node2"]),
    ],
    ids=["cancelled", "cancelled half-way", "time limit", "not started", "preempted"],
)
def test_preflight_that_was_cut_off_blames_no_node_and_is_tried_again(
    tmp_path: Path, shown: str, status: int, reports: list[str]
) -> None:
    run = tmp_path / "run"
    lines = [leaving(node, FIT) for node in reports]
    log = run_script(run, *lines, f"cat >&2 <<'E'\n{shown}E", f"exit {status}")
    (attempt,) = JobRecords(run).attempts()
    assert (attempt.outcome, attempt.code, attempt.failed_nodes) == ("unchecked", 78, []), log
    assert JobRecords(run).excluded() == {}
    assert (run / "scontrol").read_text() == "requeue 8\n"
    assert "preflight: all nodes: the check was cut off" in log
    assert f"the check ended with status {status}" in log
    assert "convbert: to be continued: unchecked; attempt 1 of at most 3" in log


def test_node_that_another_waited_for_in_vain_is_excluded_the_second_time(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for restart in (0, 1):
        assert JobRecords(run).excluded() == {}
        log = run_script(run, leaving("node0", WAITED, restart), "exit 1", restart=restart)
        attempt = JobRecords(run).attempts()[-1]
        assert (attempt.outcome, attempt.code, attempt.failed_nodes) == ("bad node", 76, ["node2"])
        assert "preflight: node2: sent no report in 600 s" in log
    assert list(JobRecords(run).excluded()) == ["node2"]
    commands = "requeue 8\nrequeue 8\nupdate JobId=8 ExcNodeList=node2\n"
    assert (run / "scontrol").read_text() == commands


def test_node_whose_process_ended_by_itself_is_excluded_at_once(tmp_path: Path) -> None:
    run = tmp_path / "run"
    log = run_script(run, leaving("node0", FIT), f"echo '{BROKEN}' >&2", "exit 1")
    (attempt,) = JobRecords(run).attempts()
    assert (attempt.outcome, attempt.code, attempt.failed_nodes) == ("bad node", 76, ["node2"])
    assert list(JobRecords(run).excluded()) == ["node2"]
    assert "preflight: node2: its process ended with status 1 before it could report" in log
    assert (run / "scontrol").read_text() == "requeue 8\nupdate JobId=8 ExcNodeList=node2\n"


def test_node_that_fails_first_twice_before_anybody_reports_is_excluded(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for restart in (0, 1):
        assert JobRecords(run).excluded() == {}
        run_script(run, f"echo '{BROKEN}' >&2", "exit 1", restart=restart)
    assert [a.outcome for a in JobRecords(run).attempts()] == ["unchecked", "unchecked"]
    assert list(JobRecords(run).excluded()) == ["node2"]


def test_full_disk_that_all_nodes_share_names_none_of_them(tmp_path: Path) -> None:
    run = tmp_path / "run"
    full = FIT | {"shared_gib": {"/run": 0.1}, "clock": 1.0}
    log = run_script(run, leaving("node0", full), leaving("node2", full))
    (attempt,) = JobRecords(run).attempts()
    assert (attempt.outcome, attempt.code, attempt.failed_nodes) == ("bad node", 76, [])
    assert JobRecords(run).excluded() == {}
    assert "preflight: all nodes: 0.1 GiB free in /run, needed" in log


@pytest.mark.parametrize("preflight", [True, False])
def test_of_fewer_nodes_as_many_train_as_can_share_the_batch(
    tmp_path: Path, preflight: bool
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("{global_batch: 3, schedule: {warmup_steps: 1}}")
    checked = FIT | {"clock": 1.0}
    options = JobOptions(nodes=3, min_nodes=1, preflight=preflight)
    reports = [leaving(node, checked) for node in ("node0", "node2")]
    log = run_script(run, *reports, 'echo "srun $*"', options=options)
    (training,) = [step for step in log.split("srun --") if "training.worker" in step]
    assert "--nodelist=node0 --nodes=1 --ntasks=1 " in training
    assert "convbert: of 2 nodes 1 can train" in log


def test_damaged_configuration_ends_the_job_with_one_line(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("steps: [")
    log = run_script(run, "exit 1")
    assert log.count("\n") == 1
    assert log.startswith(f"convbert: {run}/config.yaml: not valid YAML")
    assert not (run / "scontrol").exists()


def test_the_script_of_a_copy_does_not_train_the_original(tmp_path: Path) -> None:
    run, copy = tmp_path / "run", tmp_path / "copy"
    run.mkdir()
    (run / "config.yaml").write_text("{global_batch: 4, schedule: {warmup_steps: 1}}")
    run_script(run, "true")
    attempts = len(JobRecords(run).attempts())
    shutil.copytree(run, copy)
    variables = {"SLURM_JOB_ID": "9", "PATH": f"{run}/tools:/usr/bin:/bin"}
    command = ["bash", "pretrain.sbatch"]
    done = subprocess.run(command, cwd=copy, env=variables, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"it trains {run}; `convbert submit {copy}` writes another" in done.stderr
    assert len(JobRecords(run).attempts()) == attempts


def test_the_log_of_a_sweep_of_one_run_is_read(tmp_path: Path) -> None:
    run, options = tmp_path / "run", JobOptions(nodes=2, preflight=False)
    log = run_script(run, "echo CUDA out of memory >&2", "exit 1", options=options, start=tmp_path)
    (attempt,) = JobRecords(run).attempts()
    assert attempt.outcome == "out of memory", log


def test_preemption_during_preflight_counts_as_one(tmp_path: Path) -> None:
    run = tmp_path / "run"
    log = run_script(run, "kill -USR1 $PPID", f"cat >&2 <<'E'\n{PREEMPTED}E", "exit 143")
    (attempt,) = JobRecords(run).attempts()
    assert (attempt.outcome, attempt.code) == ("saved", 75), log
    assert "preflight:" not in log
    assert (run / "scontrol").read_text() == "requeue 8\n"
