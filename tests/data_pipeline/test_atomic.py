import os
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
