"""A process of the check that waits in vain says so; one that is killed meanwhile does not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from convbert.cluster.preflight.node_report import read_reports
from convbert.cluster.site import PreflightLimits

LIMITS = PreflightLimits(start_seconds=6, seconds=8, min_disk_gib=0, min_shm_gib=0)


def start(run: Path, job: int) -> "subprocess.Popen[bytes]":
    """Start the second of two processes; nobody starts the first."""
    (run / "slurm").mkdir(exist_ok=True)
    variables = {
        "RUN_DIR": str(run),
        "SLURM_JOB_ID": str(job),
        "SLURM_STEP_ID": "0",
        "SLURM_PROCID": "1",
        "SLURM_NTASKS": "2",
        "SLURM_LOCALID": "0",
        "SLURM_STEP_NUM_NODES": "2",
        "SLURMD_NODENAME": "node2",
        "OMP_NUM_THREADS": "1",
    }
    limits = LIMITS.model_dump_json(exclude_defaults=True)
    command = [sys.executable, "-m", "convbert.cluster.preflight.probe", limits, "0"]
    return subprocess.Popen(command, env={**os.environ, **variables})


def test_only_waiting_to_the_end_is_noted(tmp_path: Path) -> None:
    killed, patient = start(tmp_path, 1), start(tmp_path, 2)
    folder = tmp_path / "slurm" / "preflight"
    deadline = time.monotonic() + 120
    while not (folder / "1-0" / "node2.json").is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    killed.terminate()
    assert killed.wait(timeout=60) == -signal.SIGTERM
    assert patient.wait(timeout=120) == 1
    assert [r.waited for r in read_reports(folder / "1-0")] == [None]
    (report,) = read_reports(folder / "2-0")
    assert report.waited is not None
    assert report.waited >= LIMITS.start_seconds
