"""From rows to examples: texts with their label, number, tags or answers."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from convbert.models.errors import UserError
from convbert.pretrain.finetune import cells
from convbert.pretrain.finetune.answers import read_answers
from convbert.pretrain.finetune.recipe import SplitRule
from convbert.pretrain.finetune.sources import DataSource, Located, read_splits
from convbert.pretrain.finetune.tables import TableRow
from convbert.pretrain.finetune.task import TaskSpec

log = logging.getLogger(__name__)

OUTSIDE = "O"
_IDS = ("id", "index", "idx")


@dataclass(frozen=True)
class Example:
    """One text, pair, sentence of words, or question with its context.

    ``label`` is a class index, a number, a tag index for each word, or the answers as (text,
    first character); None where unlabelled. ``group`` decides the split in place of the texts.
    """

    texts: tuple[str, ...]
    label: Any
    id: str | None = None
    group: str | None = None


def read_examples(
    task: TaskSpec, source: DataSource = "auto"
) -> tuple[dict[str, list[Example]], list[str]]:
    """Return the examples of each split (train, dev and perhaps more), and the class names.

    Raises ``UserError`` naming file, line and column for anything that cannot be used.
    """
    rows = read_splits(task, source)
    if task.split.by is not None and "dev" in rows:
        raise UserError(
            f"task {task.name}: split.by divides train, and there is a dev split; drop one"
        )
    _report_padding(task, rows)
    names = _class_names(task, rows["train"])
    splits = {
        split: [_example(task, split, names, place, row) for place, row in rows[split]]
        for split in rows
    }
    if task.kind == "qa":
        _check_ids(rows, splits)
    if "dev" not in splits:
        groups = [_group(task, place, row) for place, row in rows["train"]]
        splits |= _divide(
            task, [replace(e, group=g) for e, g in zip(splits["train"], groups, strict=True)]
        )
    if isinstance(task.train_rows, int):
        require_rows(task.name, task.train_rows, len(splits["train"]))
        chosen = drawn(splits["train"], task.train_rows, task.split)
        splits["train"] = [splits["train"][i] for i in chosen]
    for split, examples in splits.items():
        if not examples:
            raise UserError(f"{task.train}: no rows left for {split}; change `split`")
    _check_train(task, splits["train"], names)
    return splits, names


def _check_ids(rows: dict[str, list[Located]], splits: dict[str, list[Example]]) -> None:
    """Refuse two questions of one split with one id: files of answers name them by it."""
    for split, examples in splits.items():
        places: dict[str, str] = {}
        for (place, _), example in zip(rows[split], examples, strict=True):
            if example.id is not None and places.setdefault(example.id, place) != place:
                raise UserError(
                    f"{place}: id {example.id!r} is that of {places[example.id]} too; correct it"
                )


def _check_train(task: TaskSpec, examples: list[Example], names: list[str]) -> None:
    """Refuse to train a classifier on one class."""
    found = {example.label for example in examples} if task.kind == "classification" else {0, 1}
    if len(found) < 2:
        raise UserError(
            f"{task.train}: all {len(examples)} rows to train on have the label "
            f"{names[found.pop()]!r}; change `split` or `train_rows`"
        )


def _report_padding(task: TaskSpec, rows: dict[str, list[Located]]) -> None:
    """Say how many labels are read without the spaces around them."""
    labels = [(place, row.get(task.label)) for found in rows.values() for place, row in found]
    padded = [(p, v) for p, v in labels if isinstance(v, str) and v != v.strip() and v.strip()]
    if padded and task.kind == "classification":
        place, value = padded[0]
        log.warning(f"{place}: {task.label} {value!r} is read without spaces, as {len(padded)} are")


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


def drawn(examples: Sequence[Example], count: int, rule: SplitRule, seed: int = 0) -> list[int]:
    """Return the places of ``count`` examples, rising; a larger draw contains the smaller ones."""
    keyed = rule.model_copy(update={"seed": rule.seed + seed})
    chosen = sorted(
        range(len(examples)), key=lambda i: _position(examples[i].texts, keyed), reverse=True
    )
    return sorted(chosen[:count])


def require_rows(task: str, wanted: int, present: int) -> None:
    """Raise ``UserError`` where a task asks for more rows to train on than there are."""
    if wanted > present:
        raise UserError(
            f"task {task}: train_rows {wanted} of {present} rows; lower it or say [all]"
        )


def _divide(task: TaskSpec, examples: list[Example]) -> dict[str, list[Example]]:
    parts: dict[str, list[Example]] = {"train": [], "dev": []}
    if task.split.test:
        parts["test"] = []
    for example in examples:
        key = example.texts if example.group is None else (example.group,)
        parts[part_of(key, task.split)].append(example)
    return parts


def _class_names(task: TaskSpec, rows: list[Located]) -> list[str]:
    if task.kind in ("regression", "qa") or task.labels:
        return task.labels or []
    found = [
        cells.class_name(task, place, value)
        for place, row in rows
        if not _unlabelled(task, row.get(task.label))
        for value in _labels(task, place, row[task.label])
    ]
    if not any(task.label in row for _, row in rows):
        present = ", ".join(rows[0][1])
        raise UserError(
            f"{task.train}: no column {task.label!r}; there are {present}; set label to one of them"
        )
    names = cells.distinct(str(task.train), found)
    if len(names) < 2:
        raise UserError(
            f"{task.train}: column {task.label!r} has {len(names)} distinct labels; need two"
        )
    return sorted(names, key=_place)


def _place(name: str) -> tuple[bool, bool, bool, str]:
    """Order classes: O, numbers by size, words by length; true is last, F1 is of the second."""
    return name != OUTSIDE, not name.isdecimal(), name.lower() == "true", name.zfill(20)


def _labels(task: TaskSpec, place: str, value: Any) -> list[Any]:
    return cells.tags(place, task.label, value) if task.kind == "tagging" else [value]


def _unlabelled(task: TaskSpec, value: Any) -> bool:
    return cells.missing(value) or str(value).strip() in task.unlabelled


def _example(task: TaskSpec, split: str, names: list[str], place: str, row: TableRow) -> Example:
    value = row.get(task.label)
    if _unlabelled(task, value):
        if split in ("train", "dev"):
            if task.label not in row:
                raise UserError(f"{place}: no column {task.label!r}; there are {', '.join(row)}")
            raise UserError(
                f"{place}: unlabelled ({task.label} is {value!r}); label the row or leave it out "
                "by `where`"
            )
        value = None
    example = _KINDS[task.kind](task, names, place, row, value)
    ids = (row[key] for key in _IDS if key in row)
    number = next((str(value) for value in ids if not isinstance(value, list)), None)
    return replace(example, id=number)


def _group(task: TaskSpec, place: str, row: TableRow) -> str | None:
    """Return what decides the split of a row in place of its texts."""
    column = task.split.by
    if column is None:
        return None
    if cells.missing(row.get(column)):
        reason = f"{column} is empty" if column in row else f"no column {column!r}"
        raise UserError(f"{place}: {reason}, and split.by needs it; there are {', '.join(row)}")
    return cells.text(place, column, row[column])


def _texts(task: TaskSpec, place: str, row: TableRow) -> tuple[str, ...]:
    return tuple(cells.text(place, column, row[column]) for column in task.text)


def _sentence(task: TaskSpec, names: list[str], place: str, row: TableRow, value: Any) -> Example:
    label = None if value is None else _index(task, names, place, value)
    return Example(_texts(task, place, row), label)


def _number(task: TaskSpec, names: list[str], place: str, row: TableRow, value: Any) -> Example:
    label = None if value is None else cells.number(place, task.label, value)
    return Example(_texts(task, place, row), label)


def _tagged(task: TaskSpec, names: list[str], place: str, row: TableRow, value: Any) -> Example:
    words = tuple(cells.words(place, task.text[0], row[task.text[0]]))
    if value is None:
        return Example(words, None)
    tags = cells.tags(place, task.label, value)
    if len(tags) != len(words):
        raise UserError(f"{place}: {len(words)} words but {len(tags)} tags in {task.label}")
    return Example(words, tuple(_index(task, names, place, tag) for tag in tags))


def _index(task: TaskSpec, names: list[str], place: str, value: Any) -> int:
    name = cells.class_name(task, place, value)
    if name not in names:
        raise UserError(
            f"{place}: {task.label} {cells.shown(value)} is not a class; there are "
            f"{', '.join(names)} (`label_names` renames, `unlabelled` ignores)"
        )
    return names.index(name)


def _question(task: TaskSpec, names: list[str], place: str, row: TableRow, value: Any) -> Example:
    question, context = _texts(task, place, row)
    if value is None:
        return Example((question, context), None)
    return Example((question, context), read_answers(place, task.label, context, value))


_KINDS: dict[str, Callable[[TaskSpec, list[str], str, TableRow, Any], Example]] = {
    "classification": _sentence,
    "regression": _number,
    "tagging": _tagged,
    "qa": _question,
}
