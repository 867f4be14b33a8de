"""Builds on Dask that are disturbed: the shards must be those of one undisturbed process."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

MAIN = "import sys; from convbert.pretrain.cli import main; sys.exit(main())"


@pytest.fixture
def command(tmp_path: Path, settings: dict[str, Any]) -> list[str]:
    path = tmp_path / "corpus.yaml"
    path.write_text(yaml.safe_dump(settings))
    out = str(tmp_path / "corpus")
    return [sys.executable, "-c", MAIN, "corpus", "build", str(path), "-o", out]


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, of which nothing is left behind."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def results(out: Path) -> int:
    """Count what lies in the steps' folders; what vanishes meanwhile is passed over."""
    steps = (folder for folder in out.glob("work/*") if folder.name != "dask-scratch-space")
    return sum(len(names) + len(files) for step in steps for _, names, files in os.walk(step))


def workers_of(pid: int) -> list[int]:
    """Processes that Dask started for a build."""
    children = psutil.Process(pid).children(recursive=True)
    return [child.pid for child in children if "spawn_main" in " ".join(child.cmdline())]


def test_two_workers_of_a_running_scheduler_make_the_same_bytes(
    tmp_path: Path, built: Path, command: list[str], shard_bytes: Callable[[Path], Any]
) -> None:
    """What a SLURM job does, on one node."""
    file = str(tmp_path / "dask.json")
    scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--scheduler-file", file]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", file]
    local = ["--host", "127.0.0.1"]
    with (
        started([*scheduler, *local, "--port", "0", "--no-dashboard"]),
        started([*worker, *local, "--nworkers", "2", "--nthreads", "1", "--no-dashboard"]),
    ):
        deadline = time.monotonic() + 60
        while not Path(file).exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        run([*command, "--scheduler-file", file])
    assert shard_bytes(tmp_path / "corpus") == shard_bytes(built)


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(
    tmp_path: Path, built: Path, command: list[str], shard_bytes: Callable[[Path], Any]
) -> None:
    """Two workers of local clusters are killed while tasks run."""
    killed = 0
    with started([*command, "--workers", "2"]) as process:
        work = tmp_path / "corpus" / "work"
        for pattern in ("clean/*", "rows/*/*"):
            while process.poll() is None and not list(work.glob(pattern)):
                time.sleep(0.01)
            pid = workers_of(process.pid)[0]
            os.kill(pid, signal.SIGKILL)
            killed += 1
        assert process.wait(120) == 0
    assert killed == 2
    assert shard_bytes(tmp_path / "corpus") == shard_bytes(built)


@pytest.mark.slow
def test_a_killed_build_goes_on_to_the_same_bytes(
    tmp_path: Path, built: Path, command: list[str], shard_bytes: Callable[[Path], Any]
) -> None:
    """Everything is killed at random moments, then the build runs to its end."""
    kills = int(os.environ.get("CONVBERT_TEST_KILLS", "4"))
    choice = random.Random(int(os.environ.get("CONVBERT_TEST_SEED", "0")))
    out, seen = tmp_path / "corpus", 0
    for number in range(kills):
        with started([*command, "--workers", str(1 + number % 3)]) as process:
            # Wait for some more results than there were, then a moment more.
            target = results(out) + choice.randrange(1, 25)
            while process.poll() is None and results(out) < target:
                time.sleep(0.002)
            time.sleep(choice.uniform(0, 0.1))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                seen += 1
        if (out / "report.json").exists():  # it was quicker: begin anew
            for folder in out.glob("shards-*"):
                subprocess.run(["rm", "-r", str(folder), str(out / "report.json")], check=False)
    assert seen >= kills // 2
    run([*command, "--workers", "2"])
    assert shard_bytes(out) == shard_bytes(built)
    assert not (out / "work").exists()
