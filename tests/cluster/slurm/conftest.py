"""One local SLURM for all tests that need a scheduler, and a hand that works it."""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from convbert.cluster import scheduler
from convbert.cluster.records import Attempt, JobRecords
from convbert.pretrain.run.exit_codes import USER_ERROR
from tests.slurm_local import daemons
from tests.slurm_local.configuration import LocalCluster

SETTINGS = [
    "precision=fp32",
    "global_batch=8",
    "schedule.warmup_steps=2",
    "tracking.log_every=2",
    "tracking.uri=off",
    "tracking.system_seconds=null",
    "threads=1",
    "model.overrides={num_layers: 2, hidden_size: 64, embedding_size: 64, num_heads: 2}",
]
PATIENCE = 900.0  # seconds; the machine may be busy with other things
SETTLING = 60.0  # seconds after a job's end in which its script may still write
TAIL = 60  # lines of a log in a failure


class Slurm:
    """SLURM's and our own commands against the local cluster."""

    def __init__(self, cluster: LocalCluster, settings: list[str]) -> None:
        self.cluster = cluster
        self.settings = settings
        self.environment = daemons.environment(cluster.state)

    def run(self, *command: str, cwd: Path | None = None) -> str:
        """Run a command and return what it prints; fails the test if it fails."""
        done = subprocess.run(
            command, env=self.environment, cwd=cwd, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def convbert(self, *arguments: str, cwd: Path | None = None) -> str:
        """Run our command line."""
        return self.run(sys.executable, "-m", "convbert.pretrain.cli", *arguments, cwd=cwd)

    def refusal(self, *arguments: str) -> str:
        """Run our command line and return the one line with which it refuses."""
        command = [sys.executable, "-m", "convbert.pretrain.cli", *arguments]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr.count("\n")) == (USER_ERROR, 1), done.stderr
        return done.stderr

    def submit(self, run: Path, *arguments: str) -> str:
        """Submit the shared recipe and return the job's id."""
        self.convbert("submit", "tiny", *self.settings, *arguments, "--run-dir", str(run))
        return JobRecords(run).submissions()[-1].job

    def job(self, job: str) -> dict[str, str]:
        """Return scontrol's fields of a job."""
        shown = self.run("scontrol", "--oneliner", "show", "job", job).splitlines()[0]
        return dict(field.split("=", 1) for field in shown.split() if "=" in field)

    def state(self, job: str) -> str:
        """Return the job's state."""
        return self.job(job)["JobState"]

    def ended(self, job: str) -> bool:
        """Whether a job will not run again by itself: it has ended, or is held in the queue."""
        found = self.job(job)
        return found["JobState"] in scheduler.ENDED or "held" in found["Reason"].lower()

    def wait(
        self, what: str, true: Callable[[], object], run: Path, job: str | None = None
    ) -> None:
        """Wait until something is true; a failure shows the end of the run's logs.

        It fails early where ``job``, which is to make it true, has ended and left it undone.
        """
        began = active = time.monotonic()
        while not true():
            now = time.monotonic()
            if job is None or not self.ended(job):
                active = now
            if now - active > SETTLING:
                pytest.fail(f"{what}: job {job} ended before ({self.state(job)})\n{tail(run)}")
            if now - began > PATIENCE:
                pytest.fail(f"{what}: not so after {PATIENCE:.0f} s\n{tail(run)}")
            time.sleep(0.25)

    def wait_for_end(self, job: str, run: Path) -> str:
        """Wait until a job is neither queued nor running; return its state."""
        self.wait(f"job {job} ends", lambda: self.ended(job), run)
        return self.state(job)


def log(run: Path) -> str:
    """Return the text of a run's logs."""
    return "\n".join(p.read_text(errors="replace") for p in sorted(run.glob("slurm/*.log")))


def tail(run: Path) -> str:
    """Return the last lines of a run's logs and which nodes it avoids."""
    lines = log(run).splitlines()[-TAIL:]
    return "\n".join([*lines, f"excluded: {JobRecords(run).excluded()}"])


def last_step(run: Path, since: float = 0.0) -> int:
    """Return the last step in metrics.jsonl that was made after ``since``, 0 without one."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    records = [json.loads(line) for line in lines if line.endswith("}")]
    return max((r["step"] for r in records if "step" in r and r["time"] > since), default=0)


def attempts(run: Path) -> list[Attempt]:
    """Return the recorded attempts of a run."""
    return JobRecords(run).attempts()


@pytest.fixture(scope="session")
def slurm(shards_dir: Path, tokenizer_dir: Path) -> Iterator[Slurm]:
    """A cluster of three nodes; skipped where SLURM is not installed and cannot be."""
    if shutil.which("slurmctld", path=daemons.search_path()) is None:
        pytest.skip(f"needs Debian's packages {daemons.PACKAGES}; `make test-slurm` installs them")
    # Sockets have short names: not below pytest's directory.
    state = Path(tempfile.mkdtemp(prefix="convbert-slurm-"))
    cluster = LocalCluster(state=state)
    data = [f"data.manifest={shards_dir / 'manifest.json'}", f"data.tokenizer={tokenizer_dir}"]
    daemons.start(cluster)
    try:
        yield Slurm(cluster, [*SETTINGS, *data])
    finally:
        daemons.stop(state)
        shutil.rmtree(state, ignore_errors=True)
