"""Read documents from text, JSON-lines and CSV files, plain or gzipped, one at a time."""

import csv
import gzip
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import IO, Literal, cast

from convbert.models.errors import UserError

Unit = Literal["file", "line", "paragraph"]


@dataclass(frozen=True)
class ReaderOptions:
    """How files become documents.

    ``unit`` says what a document is in a text file: the whole file, a line, or lines up to a
    blank one. ``field`` is the key or column that holds the text in JSON lines and tables.
    """

    unit: Unit = "file"
    field: str = "text"


def _open(path: Path) -> IO[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    return cast("IO[str]", opener(path, "rt", encoding="utf-8-sig", newline=""))


def _text(path: Path, options: ReaderOptions) -> Iterator[str]:
    with _open(path) as file:
        yield from _SPLITTERS[options.unit](file)


def _paragraphs(file: IO[str]) -> Iterator[str]:
    lines: list[str] = []
    for line in file:
        if line.strip():
            lines.append(line)
        elif lines:
            yield "".join(lines)
            lines = []
    yield "".join(lines)


_SPLITTERS: dict[Unit, Callable[[IO[str]], Iterator[str]]] = {
    "file": lambda file: iter([file.read()]),
    "line": iter,
    "paragraph": _paragraphs,
}


def _jsonl(path: Path, options: ReaderOptions) -> Iterator[str]:
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{where}: not JSON ({error.msg}); mend or remove it") from None
            text = _field(record, options.field, where)
            # An escape may stand for half a surrogate pair, which is no character.
            halves = "\\ud" in line or "\\uD" in line
            yield text.encode("utf-8", "replace").decode() if halves else text


def _field(record: object, field: str, where: str) -> str:
    if not isinstance(record, dict):
        kind = type(record).__name__
        raise UserError(f"{where}: is a {kind}, not an object with '{field}'; mend it")
    if field not in record:
        found = ", ".join(map(str, record))
        raise UserError(f"{where}: has no '{field}' (found: {found}); set --field")
    text = record[field]
    if not isinstance(text, str):
        raise UserError(f"{where}: '{field}' is {text!r:.40}, not text; mend or remove it")
    return text


def _table(path: Path, options: ReaderOptions) -> Iterator[str]:
    csv.field_size_limit(sys.maxsize)  # the default refuses documents beyond 131,072 characters
    with _open(path) as file:
        rows = csv.DictReader(file, delimiter="\t" if ".tsv" in path.suffixes else ",")
        for record in rows:
            yield _field(record, options.field, f"{path}, line {rows.line_num}")


_READERS: dict[str, Callable[[Path, ReaderOptions], Iterator[str]]] = {
    ".txt": _text,
    ".md": _text,
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".csv": _table,
    ".tsv": _table,
}


def _suffix(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def input_files(inputs: Iterable[str | Path]) -> list[Path]:
    """Expand files, directories and globs to a list in a fixed order, each file once.

    Raises ``UserError`` for an entry without a readable file, and for a file of unknown type.
    """
    files: dict[Path, None] = {}
    for entry in map(str, inputs):
        matches = [entry] if Path(entry).exists() else sorted(glob(entry, recursive=True))
        found = [file for match in matches for file in _expand(Path(match))]
        if not found:
            raise UserError(f"{entry}: no such file and no readable file below it; check the path")
        files |= dict.fromkeys(found)
    for path in files:
        if _suffix(path) not in _READERS:
            raise UserError(
                f"{path}: unknown type '{_suffix(path)}'; use one of {', '.join(_READERS)}, "
                "each also as .gz"
            )
    return list(files)


def _expand(path: Path) -> list[Path]:
    """List the readable files below a directory; a file stands for itself."""
    if not path.is_dir():
        return [path]
    return sorted(p for p in path.rglob("*") if p.is_file() and _suffix(p) in _READERS)


def iter_documents(
    inputs: Iterable[str | Path], options: ReaderOptions | None = None
) -> Iterator[str]:
    """Yield every non-empty document in order; only one is held at a time.

    Raises ``UserError`` naming the file, and the line where there is one, for unreadable input,
    and if there is no text at all.
    """
    options = options or ReaderOptions()
    files = input_files(inputs)
    empty = True
    for path in files:
        for text in _documents(path, options):
            if text.strip():
                empty = False
                yield text
    if empty:
        names = ", ".join(map(str, files[:3]))
        raise UserError(f"{names}: no text in {len(files)} file(s); check the input")


def _documents(path: Path, options: ReaderOptions) -> Iterator[str]:
    """Read one file; whatever is wrong with it becomes a ``UserError``."""
    try:
        yield from _READERS[_suffix(path)](path, options)
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise UserError(
            f"{path}: byte 0x{byte:02x} is not UTF-8; convert the file, e.g. with iconv"
        ) from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise UserError(f"{path}: damaged or not gzip; fetch it again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the file") from None
