"""The end of a process that makes no progress; hangs of real runs are in the integration tests."""

import subprocess
import sys
from pathlib import Path

import pytest

from convbert.pretrain.guards.watchdog import ACTIVITIES
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
