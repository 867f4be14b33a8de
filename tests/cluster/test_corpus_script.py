"""The corpus job with stand-ins for SLURM and Dask: what it does when no scheduler comes up."""

import os
import subprocess
from pathlib import Path

import pytest

from convbert.cluster.render import JobOptions, render_corpus
from convbert.cluster.site import load_site


def run_script(folder: Path, scheduler: str, *, restart: int, patience: int) -> tuple[int, str]:
    """Run the job with a shell line as Dask's scheduler; return its status and messages."""
    for name, line in (("python", scheduler), ("scontrol", f"echo $* >> {folder}/requeued")):
        (folder / name).write_text(f"#!/bin/bash\n{line}\n")
        (folder / name).chmod(0o755)
    (folder / "slurm").mkdir(exist_ok=True)
    site = load_site("local").model_copy(update={"python": str(folder / "python")})
    text = render_corpus(folder / "corpus.yaml", folder, site, JobOptions(retries=2))
    variables = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "8",
        "SLURM_RESTART_COUNT": str(restart),
    }
    done = subprocess.run(
        ["bash", "-c", text.replace("-ge 600", f"-ge {patience}")],
        env={**os.environ, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("scheduler", "patience"),
    [
        ("exit 1", 600),
        ("exec sleep 9 2>&-", 1),
        ("kill -USR1 $PPID; exec sleep 9 2>&-", 600),
    ],
    ids=["it fails", "it hangs", "the limit comes before it"],
)
def test_without_a_scheduler_the_job_ends_and_is_tried_again_within_the_limit(
    tmp_path: Path, scheduler: str, patience: int
) -> None:
    for restart in (1, 2):
        code, shown = run_script(tmp_path, scheduler, restart=restart, patience=patience)
        assert code == 1
        assert "convbert: no Dask scheduler after" in shown
        assert (tmp_path / "requeued").read_text() == "requeue 8\n"  # the first time only
        assert (tmp_path / "slurm" / "8.status").read_text() == "1\n"


def test_every_core_that_the_profile_describes_gets_a_worker(tmp_path: Path) -> None:
    site = load_site("local").model_copy(update={"tasks_per_node": 2, "cpus_per_task": 32})
    text = render_corpus(tmp_path / "corpus.yaml", tmp_path, site, JobOptions())
    assert "#SBATCH --cpus-per-task=64\n" in text
    assert "#SBATCH --ntasks-per-node=1\n" in text
    assert " --nworkers 64 " in text
