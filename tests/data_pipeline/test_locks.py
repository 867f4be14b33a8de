"""Locks on a file system that refuses them, as Lustre without flock does: leases stand in."""

import errno
import json
import logging
import os
import time
from pathlib import Path

import pytest

from convbert.data_pipeline import locks
from convbert.data_pipeline.locks import LEASE_SECONDS, acquire, locked


@pytest.fixture(params=[errno.ENOSYS, errno.ENOLCK])
def _no_flock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(locks.fcntl, "flock", refuse)


def leave(path: Path, host: str, process: int, age: float) -> Path:
    """Leave the lease of another holder of the lock ``path``, renewed ``age`` seconds ago."""
    lease = path.with_name(f"{path.name}.lease")
    holder = {"token": "other", "host": host, "process": process, "started": 1.0}
    lease.write_text(json.dumps(holder))
    os.utime(lease, (time.time() - age,) * 2)
    return lease


@pytest.mark.usefixtures("_no_flock")
def test_lease_keeps_others_out_until_it_is_released(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "lock"
    with caplog.at_level(logging.WARNING):
        held = acquire(path)
        assert held is not None
        assert acquire(path, 0.2) is None
    assert [r.levelname for r in caplog.records] == ["WARNING"]  # one, not one for each try
    assert "the file system has no locks" in caplog.text
    held.release()
    with locked(path):
        assert acquire(path) is None
    assert [p.name for p in tmp_path.iterdir()] == ["lock"]


@pytest.mark.usefixtures("_no_flock")
@pytest.mark.parametrize(
    ("host", "age", "free"),
    [
        (os.uname().nodename, 0.0, True),  # no process has this number: it was killed
        ("elsewhere", LEASE_SECONDS + 5, True),
        ("elsewhere", 0.0, False),
    ],
)
def test_lease_of_a_dead_holder_is_taken(tmp_path: Path, host: str, age: float, free: bool) -> None:
    path = tmp_path / "lock"
    lease = leave(path, host, 1 << 30, age)
    held = acquire(path, 0.3)
    assert (held is not None) is free
    if held is not None:
        held.release()
    assert lease.exists() is not free


@pytest.mark.usefixtures("_no_flock")
def test_lease_that_another_took_is_left_to_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = acquire(path)
    assert held is not None
    lease = leave(path, "elsewhere", 1, 0.0)
    held.release()
    assert json.loads(lease.read_text())["token"] == "other"


def test_other_errors_of_the_file_system_are_not_taken_for_missing_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(locks.fcntl, "flock", fail)
    with pytest.raises(OSError, match="Input/output"):
        acquire(tmp_path / "lock")
    assert not list(tmp_path.glob("*.lease"))
