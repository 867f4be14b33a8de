"""How processes are started, waited for and joined to a group."""

import re
import subprocess
import sys

import pytest

from convbert.pretrain.run.exit_codes import STOPPED, TRANSIENT
from convbert.pretrain.training import launch


def worker(seconds: float, code: int) -> subprocess.Popen[bytes]:
    """Start a process that ends with ``code`` after some time."""
    program = f"import sys, time; time.sleep({seconds}); sys.exit({code})"
    return subprocess.Popen([sys.executable, "-c", program])


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


def test_collectives_outlast_the_watchdog_that_knows_who_is_late() -> None:
    program = (
        "import torch, torch.distributed as dist\n"
        "from convbert.pretrain.engine.process_group import init_distributed\n"
        "init_distributed(450.0)\n"
        "print(dist.group.WORLD._get_backend(torch.device('cpu')).options._timeout)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["0:15:00"], done.stderr
