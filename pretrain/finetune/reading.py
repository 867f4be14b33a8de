"""Reading labelled rows from CSV, TSV and JSON-lines files."""

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from convbert.models.errors import UserError
from convbert.pretrain.finetune.task import SplitRule, TaskSpec

Row = dict[str, str]
Reader = Callable[[Path], Iterator[tuple[int, Row]]]


@dataclass(frozen=True)
class Example:
    """One text or pair and its label: class index or number, None where unlabelled."""

    texts: tuple[str, ...]
    label: float | None


def read_examples(task: TaskSpec) -> tuple[dict[str, list[Example]], list[str]]:
    """Return the examples of each split (train, dev and perhaps test), and the class names.

    Raises ``UserError`` naming file, line and column for anything that cannot be used.
    """
    files = {"train": task.train, "dev": task.dev, "test": task.test}
    rows = {split: _rows(task, path) for split, path in files.items() if path is not None}
    names = _class_names(task, [row for _, row in rows["train"]])
    splits = {
        split: [_example(task, split, names, line, row) for line, row in rows[split]]
        for split in rows
    }
    if task.dev is None:
        splits |= _divide(task, splits["train"])
    if task.train_rows is not None:
        splits["train"] = _sample(splits["train"], task.train_rows, task.split)
    for split, examples in splits.items():
        if not examples:
            raise UserError(f"{task.train}: no rows left for {split}; change `split`")
    return splits, names


def part_of(texts: Iterable[str], rule: SplitRule) -> str:
    """Return the split (train, dev or test) of a row, a pure function of its texts and the seed."""
    position = _position(texts, rule)
    if position < rule.dev:
        return "dev"
    return "test" if position < rule.dev + rule.test else "train"


def _position(texts: Iterable[str], rule: SplitRule) -> float:
    """Return a number in [0, 1), uniform over texts."""
    digest = hashlib.sha256("\0".join([str(rule.seed), *texts]).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _sample(examples: list[Example], count: int, rule: SplitRule) -> list[Example]:
    """Return ``count`` examples in file order; a larger sample contains the smaller ones."""
    chosen = sorted(
        range(len(examples)), key=lambda i: _position(examples[i].texts, rule), reverse=True
    )
    return [examples[i] for i in sorted(chosen[:count])]


def _divide(task: TaskSpec, examples: list[Example]) -> dict[str, list[Example]]:
    parts: dict[str, list[Example]] = {"train": [], "dev": []}
    if task.split.test:
        parts["test"] = []
    for example in examples:
        parts[part_of(example.texts, task.split)].append(example)
    return parts


def _rows(task: TaskSpec, path: Path) -> list[tuple[int, Row]]:
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: unknown file type; use one of {', '.join(READERS)}")
    try:
        rows = list(reader(path))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; task {task.name} needs it") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error.reason}); convert it") from error
    for line, row in rows:
        for column in [*task.text, *task.where]:
            if column not in row:
                raise UserError(f"{path}:{line}: no column {column!r}; there are {_list(row)}")
    kept = [(n, row) for n, row in rows if all(row[c] == v for c, v in task.where.items())]
    if not kept:
        condition = f" with {task.where}" if task.where else ""
        raise UserError(f"{path}: no rows{condition}; check the file and `where`")
    return kept


def _class_names(task: TaskSpec, rows: list[Row]) -> list[str]:
    if task.kind == "regression" or task.labels:
        return task.labels or []
    names = {row[task.label] for row in rows if task.label in row}
    if len(names) < 2:
        raise UserError(
            f"{task.train}: column {task.label!r} has {len(names)} distinct labels; need two"
        )
    return sorted(names, key=lambda name: (not name.isdecimal(), name.zfill(20)))


def _example(task: TaskSpec, split: str, names: list[str], line: int, row: Row) -> Example:
    path = getattr(task, split)
    texts = tuple(row[column] for column in task.text)
    if task.label not in row:
        if split == "test":
            return Example(texts, None)
        raise UserError(f"{path}:{line}: no column {task.label!r}; there are {_list(row)}")
    value = row[task.label]
    if task.kind == "regression":
        try:
            return Example(texts, float(value))
        except ValueError as error:
            raise UserError(f"{path}:{line}: {task.label} {value!r} is not a number") from error
    if value not in names:
        raise UserError(
            f"{path}:{line}: {task.label} {value!r} is not a class; there are {', '.join(names)}"
        )
    return Example(texts, names.index(value))


def _separated(delimiter: str, quoting: Literal[0, 3]) -> Reader:
    def read(path: Path) -> Iterator[tuple[int, Row]]:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader: csv.DictReader[str] = csv.DictReader(
                file, delimiter=delimiter, quoting=quoting, strict=True
            )
            try:
                for row in reader:
                    if None in row or None in row.values():
                        fields = len(reader.fieldnames or ())
                        raise UserError(
                            f"{path}:{reader.line_num}: not the {fields} fields of the first line; "
                            "check delimiter and quotes"
                        )
                    yield reader.line_num, row
            except csv.Error as error:
                raise UserError(f"{path}:{reader.line_num}: {error}") from error

    return read


def _json_lines(path: Path) -> Iterator[tuple[int, Row]]:
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                entry: Any = json.loads(line)
            except ValueError as error:
                raise UserError(f"{path}:{number}: not JSON ({error})") from error
            if not isinstance(entry, dict):
                raise UserError(f"{path}:{number}: not a JSON object")
            yield number, {key: str(value) for key, value in entry.items()}


# GLUE's TSV files contain bare quotes, so quotes mean nothing there.
READERS: dict[str, Reader] = {
    ".csv": _separated(",", csv.QUOTE_MINIMAL),
    ".tsv": _separated("\t", csv.QUOTE_NONE),
    ".jsonl": _json_lines,
}


def _list(row: Row) -> str:
    return ", ".join(row)
