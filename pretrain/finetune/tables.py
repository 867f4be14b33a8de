"""Rows of one file: CSV, TSV, JSON lines, SQuAD's JSON, CoNLL columns, CoNLL-U, parquet."""

import csv
import json
import logging
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from convbert.models.errors import AbsentError, DamagedError, UserError
from convbert.pretrain.finetune.cells import repeated
from convbert.pretrain.finetune.conllu_table import read_conllu
from convbert.pretrain.finetune.task import TaskSpec

log = logging.getLogger(__name__)

TableRow = dict[str, Any]
"""Column to value: text, or what JSON and parquet hold. A missing value has no key."""

Line = tuple[int, TableRow]
# What CoNLL-U writes in front of a sentence.
_COMMENT = re.compile(r"#(\s|$)")
_CONLL_U_COMMENT = re.compile(r"#[ \t]+(newdoc|newpar)\b|#[ \t]+\S+[ \t]+=[ \t]")

TableReader = Callable[[TaskSpec, Path], Iterator[Line]]


def read_table(task: TaskSpec, path: Path) -> list[Line]:
    """Return the rows of a file with their line numbers.

    Raises ``AbsentError`` for a file that is not there, and ``DamagedError`` naming file and line
    for what cannot be read.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: unknown file type; use one of {', '.join(READERS)}")
    try:
        return list(reader(task, path))
    except RecursionError:
        raise DamagedError(f"{path}: lists in lists without end; correct the file") from None
    except FileNotFoundError as error:
        raise AbsentError(
            f"{path}: no such file; task {task.name} needs it; give its folder with --data-dir"
        ) from error
    except UnicodeDecodeError as error:
        raise DamagedError(f"{path}: not UTF-8 ({error.reason}); convert it") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def _delimited(task: TaskSpec, path: Path) -> Iterator[Line]:
    """Read CSV or TSV. In TSV quotes mean nothing: GLUE's files contain bare ones."""
    comma = path.suffix.lower() == ".csv"
    quoted = comma if task.quoted is None else task.quoted
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    csv.field_size_limit(sys.maxsize)
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter="," if comma else "\t", quoting=quoting, strict=True)
        names: list[str] | None = None
        skipped = 0
        try:
            for cells in reader:
                if not cells:
                    continue
                if names is None:
                    names, is_header = _columns(task, cells)
                    check_columns(task, names, f"{path}:{reader.line_num}")
                    if is_header:
                        continue
                if len(cells) == len(names):
                    yield reader.line_num, dict(zip(names, cells, strict=True))
                elif task.skip_damaged:
                    skipped += 1
                else:
                    raise DamagedError(
                        f"{path}:{reader.line_num}: {len(cells)} fields, not the {len(names)} of "
                        "the first line; check delimiter and quotes, or set skip_damaged"
                    )
        except csv.Error as error:
            raise DamagedError(f"{path}:{reader.line_num}: {error}; check the quotes") from error
    if skipped:
        log.warning(f"{path}: {skipped} damaged rows left out")


def _columns(task: TaskSpec, cells: list[str]) -> tuple[list[str], bool]:
    """Return the column names, and whether the first line holds them.

    Files of a task with ``header`` may have both forms: CoLA's training file starts with data,
    its test file with names.
    """
    if task.header is None:
        return cells, True
    renamed = {task.rename.get(cell, cell) for cell in cells}
    return (cells, True) if set(task.text) <= renamed else (task.header, False)


def check_columns(task: TaskSpec, names: list[str], place: str) -> None:
    """Refuse a column that the task uses and that is there twice, renamed or not."""
    renamed = [task.rename.get(name, name) for name in names]
    used = [*task.text, task.label, *task.where, *([task.split.by] if task.split.by else [])]
    if twice := repeated(renamed, used):
        raise DamagedError(f"{place}: column {twice!r} is there twice; rename one of them")


def _parsed(text: str) -> Any:
    """Return what JSON says; raises ``ValueError`` also for a key that is there twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("an object has a key twice")
        return found

    return json.loads(text, object_pairs_hook=once)


def _row(entry: Any, place: str) -> TableRow:
    if not isinstance(entry, dict):
        raise DamagedError(f"{place}: not a JSON object")
    return {key: value for key, value in entry.items() if value is not None}


def _json_lines(task: TaskSpec, path: Path) -> Iterator[Line]:
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                entry = _parsed(line)
            except ValueError as error:
                raise DamagedError(f"{path}:{number}: not JSON ({error})") from error
            yield number, _row(entry, f"{path}:{number}")


def _json(task: TaskSpec, path: Path) -> Iterator[Line]:
    """Read a list of objects, or SQuAD's JSON; lines are numbered by object or question."""
    try:
        content = _parsed(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise
    except ValueError as error:
        reason = f"not JSON ({error}); JSON lines are called .jsonl"
        raise DamagedError(f"{path}: {reason}") from error
    if not isinstance(content, list):
        yield from _squad(path, content)
        return
    for number, entry in enumerate(content, start=1):
        yield number, _row(entry, f"{path}:{number}")


def _squad(path: Path, content: Any) -> Iterator[Line]:
    """Read SQuAD 1.1's and 2.0's articles."""
    try:
        articles = content["data"]
        number = 0
        for article in articles:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    number += 1
                    yield number, _question(article, paragraph["context"], question)
    except (AttributeError, KeyError, TypeError) as error:
        reason = f"no key {error}" if isinstance(error, KeyError) else str(error)
        raise DamagedError(f"{path}: not in SQuAD's format ({reason})") from error


def _question(article: TableRow, context: str, question: TableRow) -> TableRow:
    row = {"id": question["id"], "question": question["question"], "context": context}
    row["title"] = article.get("title", "")
    if question.get("is_impossible"):
        return row | {"answers": []}
    return row | ({"answers": question["answers"]} if "answers" in question else {})


def _conll(task: TaskSpec, path: Path) -> Iterator[Line]:
    """Read one word a line, columns split at spaces or tabs, sentences at blank lines.

    ``header`` names the columns. Lines that begin with -DOCSTART- are left out, and comments in
    front of a sentence are left out and counted.
    """
    names = task.header or [*task.text, task.label]
    sentence: list[list[str]] = []
    number = first = comments = 0
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            cells = _conll_cells(line, len(names))
            if cells and cells[0] == "-DOCSTART-":
                continue
            if cells and not sentence and _is_comment(line, len(cells) == len(names)):
                comments += 1
            elif cells:
                if len(cells) != len(names):
                    raise DamagedError(
                        f"{path}:{number}: {len(cells)} columns, not {', '.join(names)}; name them "
                        "in `header`"
                    )
                first = first if sentence else number
                sentence.append(cells)
            elif sentence:
                yield first, dict(zip(names, map(list, zip(*sentence, strict=True)), strict=True))
                sentence = []
    if sentence:
        yield first, dict(zip(names, map(list, zip(*sentence, strict=True)), strict=True))
    if comments:
        log.warning(f"{path}: {comments} comment lines left out")


def _conll_cells(line: str, count: int) -> list[str]:
    """Split at tabs where they make ``count`` columns, else at spaces too: never inside a word.

    A no-break space is part of a word, unlike for ``str.split``.
    """
    bare = line.strip(" \t\r\n")
    by_tabs = [cell.strip(" ") for cell in bare.split("\t")]
    if len(by_tabs) == count and all(by_tabs):
        return by_tabs
    return [cell for cell in re.split(r"[ \t]+", bare) if cell]


def _is_comment(line: str, fits: bool) -> bool:
    """Return whether a line is a comment; # alone may be a word, where it has all columns."""
    return bool((_CONLL_U_COMMENT if fits else _COMMENT).match(line))


def _text(task: TaskSpec, path: Path) -> Iterator[Line]:
    return _conll(task, path) if task.kind == "tagging" else _delimited(task, path)


def _parquet(task: TaskSpec, path: Path) -> Iterator[Line]:
    datasets = import_datasets()
    if not path.is_file():
        raise FileNotFoundError(path)
    with tempfile.TemporaryDirectory(prefix="parquet-") as cache:
        try:
            dataset = datasets.Dataset.from_parquet(str(path), cache_dir=cache, keep_in_memory=True)
            rows = list(dataset_rows(dataset))
        except Exception as error:  # those of pyarrow and datasets share no base
            reason = " ".join(str(error.__cause__ or error).split())
            raise DamagedError(f"{path}: not a parquet file ({reason}); write it anew") from error
    yield from rows


def import_datasets() -> Any:
    """Import ``datasets`` without its progress bars; raises ``UserError`` where it is missing."""
    try:
        import datasets
    except ImportError as error:
        raise AbsentError("reading datasets needs the package: pip install datasets") from error
    datasets.disable_progress_bars()
    return datasets


def dataset_rows(dataset: Any) -> Iterator[Line]:
    """Yield the rows of a Hugging Face dataset, class numbers replaced by their names."""
    datasets = import_datasets()
    named = {}
    for column, feature in dataset.features.items():
        inner = getattr(feature, "feature", feature)
        if isinstance(inner, datasets.ClassLabel):
            named[column] = inner.names
    for number, row in enumerate(dataset, start=1):
        for column, names in named.items():
            row[column] = _class_names(row[column], names)
        yield number, {key: value for key, value in row.items() if value is not None}


def _class_names(value: Any, names: list[str]) -> Any:
    if isinstance(value, list):
        return [_class_names(entry, names) for entry in value]
    return names[value] if value is not None and 0 <= value < len(names) else value


READERS: dict[str, TableReader] = {
    ".csv": _delimited,
    ".tsv": _delimited,
    ".jsonl": _json_lines,
    ".json": _json,
    ".conll": _conll,
    ".conllu": read_conllu,
    ".txt": _text,
    ".parquet": _parquet,
}
