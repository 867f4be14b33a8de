"""The end of a process that makes no progress; hangs of real runs are in the integration tests."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from convbert.pretrain.guards import watchdog
from convbert.pretrain.guards.watchdog import ACTIVITIES, AwakeClock, Watchdog
from convbert.pretrain.run.exit_codes import HUNG

HANG = """
import sys, time
from pathlib import Path
from convbert.pretrain.guards.watchdog import Watchdog
with Watchdog(Path(sys.argv[1]), 0, 1, 0.4) as watchdog:
    watchdog.beat(7, sys.argv[2])
    time.sleep(60)
"""


def hang(run: Path, activity: str) -> subprocess.CompletedProcess[str]:
    """Run a process that stands still at ``activity``."""
    command = [sys.executable, "-c", HANG, str(run), activity]
    return subprocess.run(command, capture_output=True, text=True, timeout=50)


@pytest.mark.parametrize("activity", ACTIVITIES)
def test_a_hang_is_named_in_every_activity(tmp_path: Path, activity: str) -> None:
    ended = hang(tmp_path, activity)
    assert f"is late, at '{activity}' of step 7" in ended.stderr
    assert ended.returncode == HUNG


def test_a_hang_ends_the_process_even_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "hang").write_text("a file where stacks would go")
    assert hang(tmp_path, "update").returncode == HUNG


def test_only_time_in_which_the_process_runs_counts(monkeypatch) -> None:
    machine = 100.0
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: machine)
    clock = AwakeClock(2.0)
    for _ in range(5):
        machine += 1.0
        clock.tick()
    machine += 3600.0  # suspended
    clock.tick()
    machine += 1.0
    assert clock() == 5.0 + 2.0 + 1.0


def test_many_processes_write_and_compare_no_more_than_a_file_system_bears(
    tmp_path: Path, monkeypatch, caplog
) -> None:
    def dog(rank: int, world: int) -> Watchdog:
        return Watchdog(tmp_path, rank, world, 1800.0)

    assert [dog(0, world).beat_every for world in (2, 512, 8000, 1_000_000)] == [
        10,
        10.24,
        160,
        225,
    ]
    (tmp_path / "heartbeats").mkdir()
    few = [dog(rank, 64) for rank in range(64)]
    for watchdog_ in few:
        watchdog_.beat(5 if watchdog_.rank == 42 else 6, "update")
        watchdog_.write()
    assert [p.name for p in (tmp_path / "heartbeats").glob("*42*")] == ["rank-00042.json"]
    monkeypatch.setattr(watchdog.time, "sleep", lambda _: None)
    for watchdog_ in few:
        watchdog_.give_up(1801.0)
    said = [line for line in caplog.messages if "rank 42 (" in line]
    assert len(said) == len(caplog.messages) == 8
    assert "is late, at 'update' of step 5" in said[0]
    assert len(list((tmp_path / "hang").iterdir())) == 64


@pytest.mark.slow
def test_a_suspended_process_does_not_hang(tmp_path: Path) -> None:
    program = HANG.replace("0.4", "3.0").replace("sleep(60)", "sleep(4.5)")
    program = program.replace("    time.sleep", "    print('on', flush=True)\n    time.sleep")
    command = [sys.executable, "-c", program, str(tmp_path), "update"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "on\n"
    time.sleep(0.5)  # it sleeps by then, until a moment that stopping does not move
    process.send_signal(signal.SIGSTOP)
    time.sleep(3.3)
    process.send_signal(signal.SIGCONT)
    assert process.wait(timeout=60) == 0
