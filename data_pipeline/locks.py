"""Locks between processes and machines, also on file systems that have none.

A lock is ``flock`` on a file; the kernel frees it however its process ends. Lustre is often mounted
without it (ENOSYS), NFS may lack its lock service (ENOLCK). There a lease stands in: a file beside
the lock, made exclusively, which its holder renews. It is free when its process is gone from this
machine, or when it was not renewed for ``LEASE_SECONDS`` on the file system's own clock.
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

LEASE_SECONDS = 180.0
_RENEWED_EVERY = 20.0
_INTERVAL = 0.1
_LEASE_INTERVAL = 0.5  # each look asks the file system for its time
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)

logger = logging.getLogger(__name__)
_warned: set[Path] = set()


class Lock:
    """A lock that is held until it is released or its process dies."""

    def __init__(self, descriptor: int, lease: "_Lease | None") -> None:
        """``descriptor`` is that of the open lock file."""
        self.descriptor = descriptor
        self._lease = lease

    @property
    def leased(self) -> bool:
        """Whether a lease stands in for the lock: it belongs to this process alone."""
        return self._lease is not None

    def release(self) -> None:
        """Release it, even if forked processes still hold the descriptor."""
        if self._lease is None:
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        else:
            self._lease.end()
        os.close(self.descriptor)


def acquire(path: Path, patience: float | None = 0.0) -> Lock | None:
    """Lock the file ``path``, which is made if missing; return None if another process holds it.

    It is tried for ``patience`` seconds, with None for ever, and as long as the holder of a lease
    seems dead.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        until = None if patience is None else time.monotonic() + patience
        while True:
            held = _attempt(path, descriptor, wait=until is None)
            if isinstance(held, Lock):
                return held
            if not held and until is not None and time.monotonic() >= until:
                os.close(descriptor)
                return None
            time.sleep(_LEASE_INTERVAL if path.parent in _warned else _INTERVAL)
    except BaseException:
        os.close(descriptor)
        raise


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock ``path`` while the block runs; wait for it as long as it takes."""
    lock = acquire(path, None)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _attempt(path: Path, descriptor: int, *, wait: bool) -> Lock | bool:
    """Return the lock, or whether its holder seems dead."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        return Lock(descriptor, None)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        if path.parent not in _warned:
            _warned.add(path.parent)
            logger.warning(
                "%s: the file system has no locks (%s); files named *.lease stand in for them, "
                "which a process that is killed on another machine leaves behind for %.0f s",
                path.parent,
                error.strerror,
                LEASE_SECONDS,
            )
    lease = _Lease(path.with_name(f"{path.name}.lease"))
    taken = lease.take()
    return Lock(descriptor, lease) if taken else lease.seems_dead()


class _Lease:
    """A file that exists while its holder lives."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._token = secrets.token_hex(8)
        self._ended = threading.Event()

    def take(self) -> bool:
        """Make the file, after removing one whose holder is dead; return whether it was made."""
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            holder = self._holder(self._path)
            if holder is not None and self._dead(holder):
                self._remove(holder.get("token"))
            return False
        started = psutil.Process().create_time()
        holder = {"token": self._token, "host": _host(), "process": os.getpid(), "started": started}
        with open(descriptor, "w") as file:
            json.dump(holder, file)
        threading.Thread(target=self._renew, daemon=True).start()
        return True

    def end(self) -> None:
        """Remove the file, unless another process has taken its place."""
        self._ended.set()
        self._remove(self._token)

    def seems_dead(self) -> bool:
        """Return whether the holder has missed some of its renewals."""
        return self._age() > 3 * _RENEWED_EVERY

    def _renew(self) -> None:
        while not self._ended.wait(_RENEWED_EVERY):
            holder = self._holder(self._path)
            if holder is None or holder.get("token") != self._token:
                logger.error("%s: lost, for it was not renewed in time", self._path)
                return
            with contextlib.suppress(OSError):  # the next renewal may succeed
                os.utime(self._path)

    def _dead(self, holder: dict[str, object]) -> bool:
        """Return whether a holder is known to be gone."""
        if holder.get("host") != _host():
            return self._age() > LEASE_SECONDS
        try:
            process = psutil.Process(int(str(holder.get("process"))))
            return process.create_time() != holder.get("started")
        except psutil.NoSuchProcess:
            return True
        except (ValueError, psutil.Error):  # not written yet, or another user's
            return self._age() > LEASE_SECONDS

    def _age(self) -> float:
        """Return the seconds since the last renewal, on the clock of the file system."""
        probe = self._path.with_name(f".{self._path.name}.{self._token}")
        try:
            probe.touch()
            return probe.stat().st_mtime - self._path.stat().st_mtime
        except FileNotFoundError:  # released meanwhile
            return 0.0
        finally:
            probe.unlink(missing_ok=True)

    def _remove(self, token: object) -> None:
        """Remove the file of the holder with ``token``, or put it back: it may be a new one."""
        aside = self._path.with_name(f".{self._path.name}.{self._token}.old")
        try:
            self._path.rename(aside)
        except FileNotFoundError:
            return
        found = self._holder(aside)
        if found is not None and found.get("token") != token:
            with contextlib.suppress(FileExistsError):
                os.link(aside, self._path)
        aside.unlink(missing_ok=True)

    @staticmethod
    def _holder(path: Path) -> dict[str, object] | None:
        """Return what a lease says, empty while it is being written, None if there is none."""
        try:
            content = json.loads(path.read_text())
            return content if isinstance(content, dict) else {}
        except FileNotFoundError:
            return None
        except ValueError:
            return {}


def _host() -> str:
    return os.uname().nodename
