"""Processes that map chunks: order, errors as raised, and a killed one never waited for."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from convbert.data_pipeline.workers import WorkerDied, Workers, ordered_map
from convbert.models.errors import UserError

# In a process of its own: multiprocessing clears the mask of signals when it first starts one.
FIRST = """
import signal
from convbert.data_pipeline.workers import Workers

if __name__ == "__main__":
    with Workers(1) as pool:
        masked = pool.submit(signal.pthread_sigmask, signal.SIG_BLOCK, ())
        print(signal.SIGINT in masked.result())
"""

pytestmark = pytest.mark.timeout(60)


def number_of(text: str) -> int:
    return int(text)


def die_sending(text: str) -> bytes:
    """Be killed with half of a large result in the pipe."""

    def send_half(self: Connection, message: bytes, write: object = None) -> None:
        os.write(self.fileno(), message[: len(message) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    if text == "bad":
        Connection._send = send_half  # type: ignore[attr-defined]
    return b"x" * 1000


def leave(status: int) -> None:
    os._exit(status)


def process_of(anything: int) -> int:
    return os.getpid()


def map_all(function: Callable[[str], object], items: list[str]) -> None:
    with ordered_map(function, items, workers=2) as mapped:
        list(mapped)


def test_results_come_in_order_from_a_bounded_number_of_items() -> None:
    taken = []

    def items() -> Iterator[str]:
        for number in range(40):
            taken.append(number)
            yield str(number)

    with ordered_map(number_of, items(), workers=2) as mapped:
        assert next(mapped) == 0
        assert len(taken) <= 6
        assert list(mapped) == list(range(1, 40))


def test_an_error_of_the_caller_ends_the_processes_while_its_traceback_is_kept() -> None:
    processes = []

    def fail_after_one() -> None:
        with ordered_map(process_of, range(40), workers=2) as mapped:
            processes.append(next(mapped))
            raise RuntimeError

    with pytest.raises(RuntimeError) as kept:
        fail_after_one()
    assert kept.traceback
    assert not Path(f"/proc/{processes[0]}").exists()


def test_ctrl_c_while_the_last_jobs_are_waited_for_ends_the_processes() -> None:
    processes = []

    def leave_a_job() -> None:
        with Workers(1) as pool:
            processes.append(pool.submit(process_of, 0).result())
            job = pool.submit(time.sleep, 5)
            while not job.running():
                time.sleep(0.01)
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt):
        leave_a_job()
    assert not Path(f"/proc/{processes[0]}").exists()


def test_a_process_killed_while_it_sends_a_result_is_an_error() -> None:
    with pytest.raises(UserError, match=r"workers=2: one was killed, most likely .*; use fewer"):
        map_all(die_sending, ["good", "bad", *["good"] * 20])


def test_a_process_that_leaves_is_named_by_its_status() -> None:
    with pytest.raises(WorkerDied, match="ended with status 7"), Workers(1) as pool:
        pool.submit(leave, 7).result()


def test_an_error_arrives_as_it_was_raised_with_its_place() -> None:
    with pytest.raises(ValueError, match=r"invalid literal for int.*'three'") as raised:
        map_all(number_of, ["1", "2", "three"])
    assert "in number_of" in raised.value.__notes__[-1]


def test_the_first_process_is_never_interrupted_either(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(FIRST)
    told = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert told.stdout == "True\n"


def test_processes_are_used_again_and_end_with_the_block() -> None:
    with Workers(2) as pool:
        found = {future.result() for future in [pool.submit(process_of, n) for n in range(20)]}
    assert len(found) <= 2
    for pid in found:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
