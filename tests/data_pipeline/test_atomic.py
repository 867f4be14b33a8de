import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from convbert.data_pipeline.atomic import atomic_directory, atomic_write, require_vacant
from convbert.models.errors import UserError


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_write(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_write_leaves_the_old_file(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with atomic_write(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_directory_leaves_nothing(
    tmp_path: Path, error: type[BaseException]
) -> None:
    def interrupted() -> None:
        with atomic_directory(tmp_path / "new") as folder:
            (folder / "deep").mkdir()
            (folder / "deep" / "file").write_bytes(b"half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("empty_before", [False, True])
def test_a_directory_appears_whole(tmp_path: Path, empty_before: bool) -> None:
    path = tmp_path / "missing" / "new"
    if empty_before:
        path.mkdir(parents=True)
    with atomic_directory(path) as folder:
        (folder / "file").write_bytes(b"content")
        assert not (path / "file").exists()
    assert (path / "file").read_bytes() == b"content"
    assert os.listdir(path.parent) == ["new"]


def test_a_directory_that_filled_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new"

    def overtaken() -> None:
        with atomic_directory(path):
            path.mkdir()
            (path / "theirs").write_bytes(b"")

    with pytest.raises(OSError):
        overtaken()
    assert os.listdir(path) == ["theirs"]
    assert os.listdir(tmp_path) == ["new"]


def test_only_a_vacant_place_is_accepted(tmp_path: Path) -> None:
    require_vacant(tmp_path / "missing")
    require_vacant(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(UserError, match="exists already; remove it or choose another"):
            require_vacant(path)


@pytest.mark.parametrize("exists", [False, True])
def test_a_link_stands_for_the_directory_it_leads_to(tmp_path: Path, exists: bool) -> None:
    target = tmp_path / "disk/target"
    if exists:
        target.mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(target)
    require_vacant(link)
    with atomic_directory(link) as folder:
        assert folder.parent == target.parent  # on the same file system
        (folder / "file").write_bytes(b"content")
    assert (target / "file").read_bytes() == (link / "file").read_bytes() == b"content"
    assert os.listdir(target.parent) == ["target"]
    with pytest.raises(UserError, match="link: exists already"):
        require_vacant(link)


def test_a_place_that_is_being_written_is_no_vacant_one(tmp_path: Path) -> None:
    with (
        atomic_directory(tmp_path / "shards"),
        pytest.raises(UserError, match=rf"shards: is being written by process {os.getpid()}; wait"),
    ):
        require_vacant(tmp_path / "shards")
    killed = f".shards.{os.uname().nodename[:64]}.1-00000000.tmp"
    (tmp_path / killed).mkdir()
    require_vacant(tmp_path / "shards")


def test_places_where_nothing_can_be_made_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("")
    (tmp_path / "to_file").symlink_to("file")
    for name, message in [
        ("loop", "loop: exists already"),
        ("to_file", "to_file: exists already"),
        ("file/below", r"file/below: cannot be made, for .*/file is no directory"),
    ]:
        with pytest.raises(UserError, match=message):
            require_vacant(tmp_path / name)


@pytest.mark.parametrize("kind", ["disk", "bound", "read-only"])
def test_a_mount_point_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    place, source = tmp_path / "a disk", tmp_path / "source"
    place.mkdir()
    source.mkdir()
    options = ["--bind", source] if kind == "bound" else ["-t", "tmpfs", "tmpfs"]
    options += ["-o", "ro"] if kind == "read-only" else []
    if subprocess.run(["mount", *options, place], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        with pytest.raises(UserError, match=r"a disk: is a mount point, .* such as .*/a disk/out"):
            require_vacant(place)
        if kind == "read-only":
            with pytest.raises(UserError, match=r"out: cannot be made, for .*/a disk is no"):
                require_vacant(place / "out")
        else:
            require_vacant(place / "out")
    finally:
        subprocess.run(["umount", place], check=True)


KILLED = """
import os, sys
from pathlib import Path
from convbert.data_pipeline.atomic import atomic_directory
with atomic_directory(Path(sys.argv[1])) as folder:
    (folder / "file").write_bytes(b"half")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_left_is_removed_and_what_another_writes_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "k"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", KILLED, path], stdout=subprocess.PIPE, stdin=subprocess.PIPE
        )
        for _ in range(2)
    ]
    killed, alive = (Path(p.stdout.readline().decode().strip()) for p in started if p.stdout)
    started[0].send_signal(signal.SIGKILL)
    started[0].wait()
    others = [tmp_path / ".k.elsewhere.77-0123abcd.tmp", tmp_path / ".k.77-0123abcd.tmp"]
    for folder in others:
        folder.mkdir()
    for folder in (killed, alive):
        os.utime(folder, (1, 1))
    unlike = tmp_path / ".kk.host.77-0123abcd.tmp"
    unlike.mkdir()
    with caplog.at_level(logging.WARNING), atomic_directory(path) as folder:
        (folder / "file").write_bytes(b"whole")
    assert not killed.exists()
    assert alive.exists()
    assert all(folder.exists() for folder in (*others, unlike))
    assert f"{killed}: removed, a killed process left it" in caplog.messages
    assert f"{others[0]}: left by process 77 of elsewhere; remove it if that has ended" in (
        caplog.messages
    )
    assert len(caplog.messages) == 3
    started[1].kill()
    started[1].wait()


def test_a_directory_in_the_place_of_a_file_is_refused_before_anything_is_written(tmp_path: Path):
    (tmp_path / "a.json").mkdir()
    with (
        pytest.raises(UserError, match=r"a\.json: is a directory where a file belongs"),
        atomic_write(tmp_path / "a.json"),
    ):
        raise AssertionError("the block must not run")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with (
        pytest.raises(OSError, match=f"No space left on device: '{path}'"),
        atomic_write(path),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(b"x")
    assert not list(tmp_path.iterdir())
