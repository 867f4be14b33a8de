"""Processes find each other without scontrol, and two jobs on one node do not meet."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from convbert.cluster import rendezvous
from convbert.models.errors import UserError

PROGRAM = """
import torch.distributed as dist, torch
from convbert.pretrain.run.store import host_store
store = host_store()
dist.init_process_group("gloo")
total = torch.tensor([dist.get_rank() + int(__import__("os").environ["SLURM_JOB_ID"])])
dist.all_reduce(total)
print(int(total))
dist.barrier()
"""


def start(folder: Path, job: int, rank: int) -> "subprocess.Popen[str]":
    (folder / "meet.py").write_text(PROGRAM)
    variables = {
        "RUN_DIR": str(folder),
        "SLURM_JOB_ID": str(job),
        "SLURM_STEP_ID": "0",
        "SLURM_PROCID": str(rank),
        "SLURM_NTASKS": "2",
        "SLURM_LOCALID": "0",
        "SLURM_JOB_NODELIST": "no-such-node[1-2]",
        "PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "convbert.cluster.task", "meet"],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_jobs_at_once_do_not_meet(tmp_path: Path) -> None:
    (tmp_path / "slurm").mkdir()
    processes = [start(tmp_path, job, rank) for job in (10, 20) for rank in (0, 1)]
    shown = [process.communicate(timeout=120)[0].split()[-1] for process in processes]
    assert shown == ["21", "21", "41", "41"]


# As many processes as no other limit of this machine allows, none of which has to run.
LIMITS = """
import resource
from convbert.cluster.rendezvous import allow_connections
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 4096))
allow_connections(2)
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
allow_connections(2048)
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_limit_of_open_files_is_raised_as_far_as_the_processes_need() -> None:
    shown = subprocess.run([sys.executable, "-c", LIMITS], capture_output=True, text=True)
    assert shown.stdout.splitlines() == ["1026 4096", "3072 4096"], shown.stderr


def test_a_limit_that_is_too_low_for_the_processes_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    with pytest.raises(UserError, match=r"may open 4096 files here, too few .* to 8000 processes"):
        rendezvous.allow_connections(8000)
