"""CoNLL-U: a word in each line, ten columns, lines and values read by the package ``conllu``.

The words of a sentence are its syntactic words, as treebanks count them: "na" of Portuguese is "em"
and "a". Ranges ("5-6 na") and empty nodes ("8.1", of enhanced dependencies) are no words.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from conllu.exceptions import ParseException
from conllu.models import Token
from conllu.parser import (
    DEFAULT_FIELD_PARSERS,
    DEFAULT_FIELDS,
    parse_comment_line,
    parse_line,
)

from convbert.models.errors import DamagedError
from convbert.pretrain.finetune.task import TaskSpec

if TYPE_CHECKING:
    from convbert.pretrain.finetune.tables import Line

log = logging.getLogger(__name__)

MISSING = "_"
_GLOBAL_COLUMNS = "global.columns"  # CoNLL-U Plus names its columns in a first comment
# A word without features or remarks has "_" there; elsewhere that is an annotation not made.
_OPTIONAL = ("lemma", "feats", "misc")

# The values that can be wrong in themselves; the others are kept as they are written.
_CHECKED = {name: DEFAULT_FIELD_PARSERS[name] for name in ("id", "head")}

Numbered = list[tuple[int, str]]


def read_conllu(task: TaskSpec, path: Path) -> Iterator["Line"]:
    """Yield the sentences with the number of their first line.

    Each column is the list of its values as they are written, under its name in lower case; each
    comment ``# KEY = VALUE`` a value under its key, and that of ``newdoc id`` goes on to the next
    one. A label column without a single value is left out. Raises ``DamagedError`` naming file,
    line and column for a line that is not CoNLL-U, words that are not numbered 1, 2, 3, and a
    sentence with and without labels; with ``skip_damaged`` such sentences are counted on stderr.
    """
    columns = [str(name) for name in DEFAULT_FIELDS]
    document: dict[str, str] = {}
    skipped = 0
    for lines in _sentences(path):
        comments = _comments(lines)
        columns = comments.pop(_GLOBAL_COLUMNS, " ".join(columns)).lower().split()
        document = {key: comments[key] for key in ("newdoc id",) if key in comments} or document
        try:
            words = _words(path, lines, columns)
            _check_labels(task, path, words, columns)
        except DamagedError:
            if not task.skip_damaged:
                raise
            skipped += 1
            continue
        if words:
            values = {c: [cells[i] for _, cells in words] for i, c in enumerate(columns)}
            if task.label not in _OPTIONAL and set(values.get(task.label, ())) == {MISSING}:
                del values[task.label]
            yield words[0][0], {**document, **comments, **values}
    if skipped:
        log.warning(f"{path}: {skipped} damaged sentences left out")


def _sentences(path: Path) -> Iterator[Numbered]:
    lines: Numbered = []
    with open(path, encoding="utf-8-sig") as file:  # line ends of every system become \n
        for number, line in enumerate(file, start=1):
            if line.strip():
                lines.append((number, line.rstrip("\n")))
            elif lines:
                yield lines
                lines = []
    if lines:
        yield lines


def _comments(lines: Numbered) -> dict[str, str]:
    pairs = [pair for _, line in lines if line[0] == "#" for pair in parse_comment_line(line)]
    return {key: value for key, value in pairs if value is not None}


def _words(path: Path, lines: Numbered, columns: list[str]) -> list[tuple[int, list[str]]]:
    """Return line number and cells of each syntactic word."""
    words: list[tuple[int, list[str]]] = []
    for number, line in lines:
        if line[0] == "#":
            continue
        cells = line.split("\t")
        token = _parsed(path, number, line, cells, columns)["id"]
        # A word's ID is a number, that of a range (5, "-", 6), of an empty node (8, ".", 1).
        start, kind = (token[0], token[1]) if isinstance(token, tuple) else (token, "")
        if start != len(words) + (kind != "."):
            raise DamagedError(
                f"{path}:{number}: ID {cells[columns.index('id')]!r} behind word {len(words)}; "
                "number words 1, 2, 3 and put a blank line between sentences"
            )
        if not kind:
            words.append((number, cells))
    return words


def _parsed(path: Path, number: int, line: str, cells: list[str], columns: list[str]) -> Token:
    """Return what the package makes of a line; its own splitting also takes spaces for tabs."""
    if len(cells) != len(columns) or "id" not in columns:
        raise DamagedError(
            f"{path}:{number}: {len(cells)} columns separated by tabs, not the {len(columns)} "
            f"{', '.join(columns)}; write {MISSING} where there is no value"
        )
    for column, cell in zip(columns, cells, strict=True):
        if not cell.strip() or "  " in cell:
            fault = "holds two spaces in a row" if cell.strip() else "is empty"
            raise DamagedError(f"{path}:{number}: column {column!r} {fault}; correct it")
    try:
        return parse_line(line, columns, _CHECKED)
    except ParseException as error:
        raise DamagedError(f"{path}:{number}: {error} Correct it") from None


def _check_labels(
    task: TaskSpec, path: Path, words: list[tuple[int, list[str]]], columns: list[str]
) -> None:
    """Refuse a sentence of which some words have a label and others none."""
    if task.label not in columns or task.label in _OPTIONAL:
        return
    place = columns.index(task.label)
    missing = [(number, cells) for number, cells in words if cells[place] == MISSING]
    if missing and len(missing) < len(words):
        number, cells = missing[0]
        word = dict(zip(columns, cells, strict=True)).get("form")
        raise DamagedError(
            f"{path}:{number}: {task.label} of {word!r} is {MISSING!r}, other words have one; "
            "annotate it, or set skip_damaged"
        )
