"""How processes are started, waited for and joined to a group."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from convbert.models.errors import UserError
from convbert.pretrain.run.exit_codes import FAILED, FINISHED, STOPPED, TRANSIENT
from convbert.pretrain.training import launch
from convbert.pretrain.training.stopping import StopRequest


def worker(seconds: float, code: int) -> subprocess.Popen[bytes]:
    """Start a process that ends with ``code`` after some time."""
    program = f"import sys, time; time.sleep({seconds}); sys.exit({code})"
    return subprocess.Popen([sys.executable, "-c", program])


@pytest.mark.parametrize(
    ("gpus", "wanted", "processes"), [(0, None, 1), (0, 4, 4), (2, None, 2), (2, 1, 1), (2, 2, 2)]
)
def test_processes_are_those_wanted_or_one_for_each_gpu(
    monkeypatch, tmp_path, gpus, wanted, processes
) -> None:
    with_gpus(monkeypatch, tmp_path, gpus)
    assert launch.processes_here(wanted) == processes


def test_more_processes_than_gpus_are_refused_before_the_second_finds_none(
    monkeypatch, tmp_path
) -> None:
    with_gpus(monkeypatch, tmp_path, 1)
    with pytest.raises(UserError, match=r"--processes 2: .* 1 is visible here; leave it out"):
        launch.processes_here(2)


def with_gpus(monkeypatch: pytest.MonkeyPatch, device: Path, count: int) -> None:
    """Make this a machine of ``count`` GPUs."""
    monkeypatch.setattr(launch, "_GPU_DEVICES", (str(device),))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(("first", "second"), [(STOPPED, STOPPED), (2, -9), (0, 0)])
def test_a_process_that_stopped_as_asked_does_not_hurry_the_others(
    monkeypatch, first: int, second: int
) -> None:
    monkeypatch.setattr(launch, "GRACE_SECONDS", 0.3)
    workers = [worker(0.0, first), worker(2.0, max(second, 0))]
    assert launch._wait(workers) == first
    for one in workers:
        one.kill()
    assert [one.wait() for one in workers] == [first, second]


@pytest.mark.parametrize(("error", "status"), [("UserError", 2), ("TransientError", TRANSIENT)])
def test_the_status_of_a_process_says_whether_starting_it_again_may_help(
    error: str, status: int
) -> None:
    program = (
        "from convbert.models import errors\n"
        "from convbert.pretrain.training import worker\n"
        "def train(path, stop, hooks):\n"
        f"    raise errors.{error}('the store is away')\n"
        "worker.train = train\n"
        "worker.main()"
    )
    command = [sys.executable, "-c", program, "run"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == status
    assert re.fullmatch(r"[\d-]+ [\d:]+ rank 0 ERROR the store is away\n", done.stderr)


@pytest.mark.skipif(sys.platform != "linux", reason="no signal at the death of a parent")
def test_a_worker_whose_launcher_was_killed_meanwhile_ends() -> None:
    program = (
        "from convbert.pretrain.training import worker\n"
        "worker.train = lambda path, stop, hooks: True\n"
        "raise SystemExit(worker.main())"
    )
    command = [sys.executable, "-c", program, "run"]
    ended = [
        subprocess.run(command, env=os.environ | {launch.LAUNCHER: str(number)}).returncode
        for number in (os.getpid(), os.getpid() + 1)
    ]
    assert ended == [FINISHED, FAILED]


def test_collectives_outlast_the_watchdog_that_knows_who_is_late() -> None:
    program = (
        "import torch, torch.distributed as dist\n"
        "from convbert.pretrain.engine.process_group import init_distributed\n"
        "init_distributed(450.0)\n"
        "print(dist.group.WORLD._get_backend(torch.device('cpu')).options._timeout)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["0:15:00"], done.stderr


def test_a_process_that_the_kernel_killed_is_named_with_its_memory(caplog) -> None:
    program = "import os, time; held = b'x' * 200_000_000; time.sleep(1.5); os.kill(os.getpid(), 9)"
    workers = [worker(0.0, 0), subprocess.Popen([sys.executable, "-c", program])]
    assert launch._wait(workers) == 137
    (line,) = caplog.messages
    said = re.search(
        r"rank 1 \((\d\.\d\d) GB\) was killed \(SIGKILL\).*has ([\d.]+) GB; lower", line
    )
    assert said, line
    assert 0.2 <= float(said[1]) < 1.0 < float(said[2])


def test_threads_are_as_configured_or_the_environment_says_or_a_share_of_the_processors(
    monkeypatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4, 5})
    assert launch._threads(None, 2) == "3"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert launch._threads(None, 2) == "5"
    assert launch._threads(2, 2) == "2"


def test_nohup_keeps_a_run_from_the_end_of_its_terminal() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.requested
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
