"""Read pairs that people made: BLiMP's, ScaLA's and CoLA's layouts, as JSON lines, CSV or TSV.

A file has the pair in each row (``good`` and ``bad``, or BLiMP's ``sentence_good`` and
``sentence_bad``), or one sentence in each row with a label. Labelled sentences are joined by a
column that names their pair, or else by their words: a bad sentence belongs to the good one of the
same words in another order, or with one word more.
"""

import csv
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from convbert.models.errors import AbsentError, UserError
from convbert.pretrain.pairs.pair import Pair

_BOTH = (("good", "bad"), ("sentence_good", "sentence_bad"))
_TEXT = ("sentence", "text")
_LABEL = ("label", "acceptable")
_PAIR = ("pair", "pair_id", "pairID", "id")
_KIND = ("kind", "UID", "linguistics_term", "corruption_type")
_READ = (*_BOTH[0], *_BOTH[1], *_TEXT, *_LABEL, *_PAIR, *_KIND)
_GOOD = {"1", "true", "correct", "acceptable", "good"}
_BAD = {"0", "false", "incorrect", "unacceptable", "bad"}

Row = tuple[int, dict[Any, Any]]


def is_pairs_file(path: Path) -> bool:
    """Return whether a file's rows have the columns of pairs or of labelled sentences."""
    if path.suffix.lower() not in _READERS:
        return False
    first = next(_rows(path), None)
    columns = set(first[1]) if first else set()
    labelled = columns & set(_TEXT) and columns & set(_LABEL)
    return bool(labelled) or any(columns >= set(both) for both in _BOTH)


def read_pairs(path: Path) -> tuple[list[Pair], int]:
    """Return the pairs of a file, and how many of its sentences belong to none.

    Raises ``UserError`` naming the file and line of a row that cannot be used.
    """
    if not path.is_file():
        raise AbsentError(f"{path}: the file does not exist; check the path")
    if path.suffix.lower() not in _READERS:
        raise UserError(f"{path}: pairs are read from {', '.join(_READERS)}; convert the file")
    rows = list(_rows(path))
    for number, row in rows:
        if None in row:  # where the table's reader puts what is behind the last column
            raise UserError(
                f"{path}, line {number}: {len(row) - 1 + len(row[None])} fields, not the "
                f"{len(row) - 1} of the first line; put quotes around a sentence with the separator"
            )
    columns = set(rows[0][1]) if rows else set()
    for good, bad in _BOTH:
        if columns >= {good, bad}:
            pairs = [
                Pair(_text(path, row, good), _text(path, row, bad), _kind(path, row[1]))
                for row in rows
            ]
            return _usable(path, pairs), 0
    text = next((name for name in _TEXT if name in columns), None)
    label = next((name for name in _LABEL if name in columns), None)
    if text is None or label is None:
        raise UserError(
            f"{path}: has the columns {', '.join(sorted(columns)) or 'none'}; name two 'good' and "
            "'bad', or give 'sentence' and 'label'"
        )
    pairs, alone = _joined(path, rows, text, label)
    return _usable(path, pairs), alone


def _usable(path: Path, pairs: list[Pair]) -> list[Pair]:
    if not pairs:
        raise UserError(f"{path}: holds no pair of a good and a bad sentence")
    return pairs


def _rows(path: Path) -> Iterator[Row]:
    """Yield the rows with their line numbers."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _READERS[path.suffix.lower()](path, file)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 ({error}); convert it") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None


def _json_lines(path: Path, file: Any) -> Iterator[Row]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: not JSON ({error}); correct it") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: expected an object with keys; correct it")
        yield number, row


def _table(delimiter: str) -> Callable[[Path, Any], Iterator[Row]]:
    def read(path: Path, file: Any) -> Iterator[Row]:
        csv.field_size_limit(sys.maxsize)
        rows = csv.DictReader(file, delimiter=delimiter, strict=True)
        try:
            names = Counter(rows.fieldnames or ())
            if twice := [name for name in _READ if names[name] > 1]:
                raise UserError(f"{path}: column {twice[0]!r} is there twice; rename one of them")
            for row in rows:
                yield rows.line_num, row
        except csv.Error as error:
            line = rows.reader.line_num
            raise UserError(f"{path}, line {line}: {error}; correct it") from None

    return read


_READERS: dict[str, Callable[[Path, Any], Iterator[Row]]] = {
    ".jsonl": _json_lines,
    ".csv": _table(","),
    ".tsv": _table("\t"),
}


def _text(path: Path, row: Row, column: str) -> str:
    value = row[1].get(column)
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{path}, line {row[0]}: '{column}' is {value!r}; give a sentence")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise UserError(f"{path}, line {row[0]}: '{column}' holds half a character; correct it")
    return value.strip()


def _kind(path: Path, row: dict[str, Any]) -> str:
    return next((str(row[name]) for name in _KIND if row.get(name)), path.stem)


def _is_good(path: Path, row: Row, column: str) -> bool:
    value = str(row[1].get(column)).strip().lower()
    if value not in _GOOD | _BAD:
        raise UserError(
            f"{path}, line {row[0]}: '{column}' is {value!r}; use 1 for good and 0 for bad"
        )
    return value in _GOOD


def _joined(path: Path, rows: Sequence[Row], text: str, label: str) -> tuple[list[Pair], int]:
    """Join good and bad sentences, by a column that names the pair or by their words.

    Returns the pairs, and how many sentences are in none.
    """
    good: list[tuple[str, Row]] = []
    bad: list[tuple[str, Row]] = []
    for row in rows:
        side = good if _is_good(path, row, label) else bad
        side.append((_text(path, row, text), row))
    named = next((column for column in _PAIR if _repeats(rows, column)), None)
    if named is None:
        by_words = _by_words([sentence for sentence, _ in good])
        matches = [by_words.get(_key(sentence.split())) for sentence, _ in bad]
    else:
        by_name = _by_name(path, good, named)
        matches = [by_name.get(_name(row, named)) for _, row in bad]
    pairs = [
        Pair(match, sentence, _kind(path, row[1]))
        for match, (sentence, row) in zip(matches, bad, strict=True)
        if match is not None
    ]
    used = {pair.good for pair in pairs}
    return pairs, len(bad) - len(pairs) + sum(sentence not in used for sentence, _ in good)


def _name(row: Row, column: str) -> str:
    """Return the name of a row's pair, "" for none."""
    value = row[1].get(column)
    return "" if value is None else str(value)


def _repeats(rows: Sequence[Row], column: str) -> bool:
    names = Counter(_name(row, column) for row in rows)
    return any(count > 1 for name, count in names.items() if name)


def _by_name(path: Path, good: Sequence[tuple[str, Row]], column: str) -> dict[str, str]:
    """Map the names of pairs to their good sentences; refuses a name that two of these have."""
    known: dict[str, str] = {}
    for sentence, row in good:
        name = _name(row, column)
        if name and known.setdefault(name, sentence) != sentence:
            raise UserError(
                f"{path}, line {row[0]}: a second good sentence with the {column!r} {name!r}; give "
                "each good sentence one of its own, or leave out the column"
            )
    return known


def _key(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(word.casefold() for word in words))


def _by_words(sentences: Sequence[str]) -> dict[tuple[str, ...], str]:
    """Map the words of each sentence, and those with one left out, to the sentence."""
    known: dict[tuple[str, ...], str] = {}
    for sentence in sentences:
        words = sentence.split()
        for place in range(len(words)):
            known.setdefault(_key(words[:place] + words[place + 1 :]), sentence)
    for sentence in sentences:
        known[_key(sentence.split())] = sentence
    return known
