"""Files are found whatever leads to them, each once, and what is left out is said."""

import logging
import os
from pathlib import Path

import fsspec
import pytest

from convbert.data_pipeline.readers import ReaderOptions, find_files, input_files, iter_documents
from convbert.data_pipeline.readers.discovery import (
    AGAIN,
    BROKEN,
    DEVICE,
    EMPTY,
    HIDDEN,
    UNKNOWN,
)
from convbert.models.errors import AbsentError, UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory as people have them."""
    folder = tmp_path / "in"
    (tmp_path / "elsewhere/deep").mkdir(parents=True)
    (folder / "sub").mkdir(parents=True)
    (folder / ".cache").mkdir()
    for name in ("B.TXT", "a.Txt.GZ", "part-00000", "part-r-00001.gz", "notes", "x.png", ".a.txt"):
        (folder / name).write_text(f'{{"text": "{name}"}}')
    (folder / ".cache/c.txt").write_text("c")
    (folder / "cut.jsonl.gz").write_text("")
    (folder / "sub/d.JSONL").write_text("d")
    (folder / "sub/e.jsonlines").write_text("e")
    (tmp_path / "elsewhere/deep/f.txt").write_text("f")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "gone.txt").symlink_to(tmp_path / "nothing")
    (folder / "loop").symlink_to(folder)
    (folder / "sub/up").symlink_to("..")
    (folder / "z.txt").hardlink_to(tmp_path / "elsewhere/deep/f.txt")
    os.mkfifo(folder / "pipe.txt")
    return folder


def below(folder: Path, *inputs: str | Path, **options: object) -> list[str]:
    return [os.path.relpath(file.name, folder) for file in find_files(inputs, **options).files]


READ = [
    "B.TXT", "a.Txt.GZ", "linked/deep/f.txt", "part-00000", "part-r-00001.gz", "sub/d.JSONL",
    "sub/e.jsonlines",
]  # fmt: skip


def test_a_directory_is_searched_through_links_each_file_once(folder: Path) -> None:
    assert below(folder, folder) == READ
    found = find_files([folder])
    assert found.left_out == {HIDDEN: 2, UNKNOWN: 2, BROKEN: 1, AGAIN: 1, DEVICE: 1, EMPTY: 1}
    text = "\n".join(found.said())
    assert f"2 file(s) not read (name tells no format): {folder}/notes, {folder}/x.png;" in text
    assert f"1 file(s) not read (broken link): {folder}/gone.txt" in text
    assert "--input-format NAME" in text


def test_a_given_format_takes_every_file_that_is_not_hidden(folder: Path) -> None:
    assert below(folder, folder, kind="jsonl") == sorted([*READ, "notes", "x.png"])
    names = [folder / "B.TXT", folder / "notes", folder / "part-00000"]
    options = ReaderOptions(format="jsonl")
    assert list(iter_documents(names, options)) == ["B.TXT", "notes", "part-00000"]


def test_globs_go_through_loops_once_and_leave_hidden_files(folder: Path) -> None:
    assert below(folder, f"{folder}/**/*.txt") == ["linked/deep/f.txt"]
    assert below(folder, f"{folder}/**/*.JSONL") == ["sub/d.JSONL"]
    assert below(folder, f"{folder}/*/*/f.txt") == ["linked/deep/f.txt"]
    assert below(folder, f"{folder}/s*") == [
        "sub/d.JSONL", "sub/e.jsonlines", "sub/up/B.TXT", "sub/up/a.Txt.GZ",
        "sub/up/linked/deep/f.txt", "sub/up/part-00000", "sub/up/part-r-00001.gz",
    ]  # fmt: skip


def test_many_loops_do_not_multiply(folder: Path) -> None:
    for number in range(12):
        (folder / f"sub/loop{number}").symlink_to(folder)
    assert len(find_files([f"{folder}/**/*.txt", folder]).files) == len(READ)


def test_what_is_named_is_read_hidden_or_not_and_once(folder: Path) -> None:
    assert below(folder, folder / ".a.txt", folder / "notes") == [".a.txt", "notes"]
    assert below(folder, folder / ".cache") == [".cache/c.txt"]
    assert below(folder, folder / "z.txt", folder / "linked") == ["z.txt"]


def test_what_is_left_out_is_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        input_files([folder])
    assert len(caplog.messages) == 6
    with pytest.raises(AbsentError, match=r"no readable file below it; 1 .*broken link\): .*gone"):
        input_files([folder / "gone.txt"])
    (folder / "sub/f").mkdir()
    (folder / "sub/f/x.doc").write_text("x")
    with pytest.raises(AbsentError, match=r"1 file\(s\) not read \(name tells no format\)"):
        input_files([folder / "sub/f"])


def test_names_that_are_no_utf8_are_found(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")
    Path(path).write_text("text")
    assert list(iter_documents([tmp_path])) == ["text"]
    (tmp_path / "sub").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/sub/\xff.doc")).write_text("text")
    with pytest.raises(UserError) as caught:
        input_files([tmp_path / "sub"])
    assert "\\xff.doc" in str(caught.value)


def test_addresses_are_found_once_too() -> None:
    files = fsspec.filesystem("memory")
    for name in ("B.TXT", ".hidden/a.txt", "part-00003", "x.png"):
        files.pipe(f"/discovery/{name}", b"x")
    found = find_files(["memory://discovery", "memory://discovery/B.TXT"])
    assert [file.name for file in found.files] == [
        f"memory:///discovery/{name}" for name in ("B.TXT", "part-00003")
    ]
    assert found.left_out == {HIDDEN: 1, UNKNOWN: 1, AGAIN: 1}
