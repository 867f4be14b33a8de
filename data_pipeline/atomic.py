"""Files and directories that appear whole or not at all, and what a killed process leaves."""

import errno
import fcntl
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from convbert.models.errors import UserError

log = logging.getLogger(__name__)

_HOST = os.uname().nodename[:64]
# A directory that is this young may be one that its process has not locked yet.
_LOCKED_WITHIN_SECONDS = 2


def require_vacant(path: Path) -> None:
    """Raise ``UserError`` unless a directory can be made at ``path``, or an empty one replaced.

    A link stands for the directory that it leads to. A mount point cannot be replaced.
    """
    real = Path(os.path.realpath(path))
    try:
        if os.path.lexists(real) and (not real.is_dir() or any(real.iterdir())):
            raise UserError(f"{path}: exists already; remove it or choose another directory")
    except OSError as error:
        raise UserError(f"{path}: cannot be used ({error.strerror}); choose another") from None
    if _is_mount(real):
        raise UserError(
            f"{path}: is a mount point, in whose place nothing can be put; choose a directory "
            f"below it, such as {path / 'out'}"
        )
    above = next(folder for folder in real.parents if os.path.lexists(folder))
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise UserError(
            f"{path}: cannot be made, for {above} is no directory that can be written to; choose "
            "another place"
        )
    for entry, host, process in _begun(real) if real.parent.is_dir() else ():
        if host == _HOST and _is_free(entry, young=True) is False:
            raise UserError(
                f"{path}: is being written by process {process}; wait for it or choose another "
                "directory"
            )


def _is_mount(path: Path) -> bool:
    """Return whether something is mounted at a path, also a directory of the same file system."""
    try:
        mounts = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return os.path.ismount(path)
    places = (line.split()[4].decode("unicode_escape").encode("latin-1") for line in mounts)
    return os.fsencode(path) in places


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Make a directory, or take one that is there, before the work whose results it is for.

    Raises ``UserError`` where nothing can be written there, and ``OSError`` that names the place
    where it cannot be made. What was made and stays empty after an error is removed.
    """
    made = [p for p in (folder, *folder.parents) if not os.path.lexists(p)]
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{folder}: this user cannot write there; choose another directory")
    try:
        yield
    except BaseException:
        with suppress(OSError):  # it holds something
            for empty in made:
                empty.rmdir()
        raise


@contextmanager
def file_place(path: Path) -> Iterator[None]:
    """Keep a place for a file, before the work whose result it is; raises as ``filled`` does."""
    if path.is_dir():
        raise UserError(f"{path}: is a directory; name a file, such as {path / 'page.html'}")
    if path.exists() and not os.access(path, os.W_OK):
        raise UserError(f"{path}: this user cannot write to it; choose another file")
    with filled(path.parent):
        yield


@contextmanager
def naming(folder: Path) -> Iterator[None]:
    """Turn a full or forbidden disk into an error that names the place."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror}), nothing is kept; make room or choose "
            "another directory"
        ) from None


def fsync_directory(path: Path) -> None:
    """Make renames inside ``path`` survive a power failure."""
    _fsync(path)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{_HOST}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def clear_left(path: Path) -> None:
    """Remove what killed processes of this machine left beside ``path``; say what others left.

    A directory that is being written is locked, so an unlocked one belongs to nobody.
    """
    for entry, host, process in _begun(path):
        free = _is_free(entry) if host == _HOST else None
        if free:
            shutil.rmtree(entry, ignore_errors=True)
            log.warning(f"{entry}: removed, a killed process left it")
        elif free is None:
            log.warning(
                f"{entry}: left by process {process} of {host or 'an earlier version'}; "
                "remove it if that has ended"
            )


def _begun(path: Path) -> list[tuple[Path, str | None, str]]:
    """Return the directories beside ``path`` that were to become it, each with host and process."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.(?:(.+)\.)?(\d+)-[0-9a-f]{{8}}\.tmp")
    with os.scandir(path.parent) as entries:
        found = [(e, pattern.fullmatch(e.name)) for e in entries if e.is_dir(follow_symlinks=False)]
    return [(Path(entry), name[1], name[2]) for entry, name in found if name is not None]


def _is_free(folder: Path, *, young: bool = False) -> bool | None:
    """Return whether nobody writes a directory, or None if this cannot be told.

    ``young`` ones may be free too, whose process has had no time to lock them.
    """
    try:
        if not young and time.time() - folder.stat().st_mtime < _LOCKED_WITHIN_SECONDS:
            return False
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks of directories
        return None
    finally:
        os.close(descriptor)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a directory while the block runs, where its file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that takes the place of ``path`` when the block ends without error.

    The content is synced before it is renamed; on an error ``path`` is untouched and nothing is
    left behind. Raises ``UserError`` where a directory has the place, and ``OSError`` that names
    the file where the disk is full.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a directory where a file belongs; move it away")
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        # A write does not know what the file is called.
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            error.filename = error.filename or str(path)
        raise
    fsync_directory(path.parent)


@contextmanager
def atomic_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Give a new directory that becomes ``path`` when the block ends without error.

    Everything in it is synced first. ``path`` must not exist or be empty, or be a link to such a
    place, unless it is to ``replace`` what is there; on an error nothing is left behind. What
    killed processes left there is removed.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_left(path)
    temporary = _temporary(path)
    temporary.mkdir()
    try:
        with _locked(temporary):
            yield temporary
            for entry in [*temporary.rglob("*"), temporary]:
                _fsync(entry)
            if replace and path.is_dir():
                _exchange(temporary, path)
            else:
                temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    fsync_directory(path.parent)


def set_aside(path: Path) -> Path:
    """Give a directory that is to be removed a name that nobody asks for, and return it.

    What others make in its place meanwhile stays; ``clear_left`` finds it if this process ends.
    """
    aside = _temporary(path)
    path.rename(aside)
    return aside


def _exchange(new: Path, path: Path) -> None:
    """Put one directory in the place of another, which is removed."""
    aside = set_aside(path)
    try:
        new.rename(path)
    except BaseException:
        aside.rename(path)
        raise
    shutil.rmtree(aside, ignore_errors=True)
