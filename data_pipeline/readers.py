"""Read documents from text, JSON-lines and CSV files, plain or gzipped, one at a time."""

import csv
import gzip
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import IO, Literal

from convbert.models.errors import UserError

Unit = Literal["file", "line", "paragraph"]

csv.field_size_limit(sys.maxsize)


@dataclass(frozen=True)
class ReaderOptions:
    """How files become documents.

    ``unit`` says what a document is in a text file: the whole file, a line, or lines up to a
    blank one. ``field`` is the key or column that holds the text elsewhere.
    """

    unit: Unit = "file"
    field: str = "text"


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", errors="strict", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _text(path: Path, options: ReaderOptions) -> Iterator[str]:
    with _open(path) as file:
        if options.unit == "file":
            yield file.read()
        elif options.unit == "line":
            yield from file
        else:
            paragraph: list[str] = []
            for line in file:
                if line.strip():
                    paragraph.append(line)
                elif paragraph:
                    yield "".join(paragraph)
                    paragraph = []
            yield "".join(paragraph)


def _jsonl(path: Path, options: ReaderOptions) -> Iterator[str]:
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{path}, line {number}: not JSON ({error.msg}); mend it") from None
            yield _field(record, options.field, f"{path}, line {number}")


def _field(record: object, field: str, where: str) -> str:
    if not isinstance(record, dict) or not isinstance(record.get(field), str):
        keys = ", ".join(map(str, record)) if isinstance(record, dict) else type(record).__name__
        raise UserError(f"{where}: no text under '{field}' (found: {keys}); set --field")
    return str(record[field])


def _csv(path: Path, options: ReaderOptions) -> Iterator[str]:
    with _open(path) as file:
        rows = csv.DictReader(file, delimiter="\t" if ".tsv" in path.suffixes else ",")
        for record in rows:
            yield _field(record, options.field, f"{path}, line {rows.line_num}")


_READERS: dict[str, Callable[[Path, ReaderOptions], Iterator[str]]] = {
    ".txt": _text,
    ".md": _text,
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".csv": _csv,
    ".tsv": _csv,
}


def _suffix(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def input_files(inputs: Iterable[str | Path]) -> list[Path]:
    """Expand files, directories and globs to a sorted list; ``UserError`` if one is empty."""
    files: list[Path] = []
    for entry in map(str, inputs):
        path = Path(entry)
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.is_file() and _suffix(p) in _READERS)
        else:
            found = [path] if path.is_file() else sorted(map(Path, glob(entry, recursive=True)))
        if not found:
            raise UserError(f"{entry}: no such file and no readable file below it; check the path")
        files += found
    for path in files:
        if _suffix(path) not in _READERS:
            raise UserError(
                f"{path}: unknown type '{_suffix(path)}'; use one of {', '.join(_READERS)}, "
                "each also as .gz"
            )
    return files


def iter_documents(
    inputs: Iterable[str | Path], options: ReaderOptions | None = None
) -> Iterator[str]:
    """Yield every non-empty document in order; only one is held at a time.

    Raises ``UserError`` naming file and line for unreadable input, and if there is no text at all.
    """
    options = options or ReaderOptions()
    files = input_files(inputs)
    empty = True
    for path in files:
        try:
            for text in _READERS[_suffix(path)](path, options):
                if text.strip():
                    empty = False
                    yield text
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path}: not UTF-8 at byte {error.start}; convert it, e.g. with iconv"
            ) from None
        except (gzip.BadGzipFile, EOFError):
            raise UserError(f"{path}: damaged or not gzip; fetch it again") from None
    if empty:
        names = ", ".join(map(str, files[:3]))
        raise UserError(f"{names}: no text in {len(files)} file(s); check the input")
