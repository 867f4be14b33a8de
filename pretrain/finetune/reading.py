"""From rows to examples: texts with their label, number, tags or answers."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from convbert.models.errors import UserError
from convbert.pretrain.finetune.recipe import SplitRule
from convbert.pretrain.finetune.sources import DataSource, Located, read_splits
from convbert.pretrain.finetune.tables import TableRow
from convbert.pretrain.finetune.task import TaskSpec

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
    names = _class_names(task, rows["train"])
    splits = {
        split: [_example(task, split, names, place, row) for place, row in rows[split]]
        for split in rows
    }
    if "dev" not in splits:
        splits |= _divide(task, splits["train"])
    if isinstance(task.train_rows, int):
        chosen = drawn(splits["train"], task.train_rows, task.split)
        splits["train"] = [splits["train"][i] for i in chosen]
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


def drawn(examples: Sequence[Example], count: int, rule: SplitRule, seed: int = 0) -> list[int]:
    """Return the places of ``count`` examples, rising; a larger draw contains the smaller ones."""
    keyed = rule.model_copy(update={"seed": rule.seed + seed})
    chosen = sorted(
        range(len(examples)), key=lambda i: _position(examples[i].texts, keyed), reverse=True
    )
    return sorted(chosen[:count])


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
    values = [row[task.label] for _, row in rows if task.label in row]
    if not values:
        raise UserError(
            f"{task.train}: no column {task.label!r}; there are {', '.join(rows[0][1])}"
        )
    if task.kind == "tagging":
        values = [tag for tags in values for tag in _words(tags)]
    names = {_name(task, value) for value in values} - set(task.unlabelled)
    if len(names) < 2:
        raise UserError(
            f"{task.train}: column {task.label!r} has {len(names)} distinct labels; need two"
        )
    return sorted(names, key=lambda name: (name != OUTSIDE, not name.isdecimal(), name.zfill(20)))


def _name(task: TaskSpec, value: Any) -> str:
    return task.label_names.get(str(value), str(value))


def _words(value: Any) -> list[str]:
    return [str(word) for word in value] if isinstance(value, list) else str(value).split()


def _example(task: TaskSpec, split: str, names: list[str], place: str, row: TableRow) -> Example:
    value = row.get(task.label)
    if value is None or str(value) in task.unlabelled:
        if split in ("train", "dev"):
            reason = f"no column {task.label!r}" if value is None else f"unlabelled ({value})"
            raise UserError(f"{place}: {reason}; there are {', '.join(row)}")
        value = None
    example = _KINDS[task.kind](task, names, place, row, value)
    names_ = (row[key] for key in _IDS if key in row)
    number = next((str(name) for name in names_ if not isinstance(name, list)), None)
    group = str(row[task.split.by]) if task.split.by in row else None
    return replace(example, id=number, group=group)


def _sentence(task: TaskSpec, names: list[str], place: str, row: TableRow, value: Any) -> Example:
    texts = tuple(str(row[column]) for column in task.text)
    return Example(texts, None if value is None else _index(task, names, place, value))


def _number(task: TaskSpec, names: list[str], place: str, row: TableRow, value: Any) -> Example:
    texts = tuple(str(row[column]) for column in task.text)
    if value is None:
        return Example(texts, None)
    try:
        return Example(texts, float(value))
    except ValueError as error:
        raise UserError(f"{place}: {task.label} {value!r} is not a number") from error


def _tagged(task: TaskSpec, names: list[str], place: str, row: TableRow, value: Any) -> Example:
    words = tuple(_words(row[task.text[0]]))
    if not words:
        raise UserError(f"{place}: {task.text[0]} holds no words")
    if value is None:
        return Example(words, None)
    tags = _words(value)
    if len(tags) != len(words):
        raise UserError(f"{place}: {len(words)} words but {len(tags)} tags in {task.label}")
    return Example(words, tuple(_index(task, names, place, tag) for tag in tags))


def _index(task: TaskSpec, names: list[str], place: str, value: Any) -> int:
    name = _name(task, value)
    if name not in names:
        raise UserError(
            f"{place}: {task.label} {value!r} is not a class; there are {', '.join(names)} "
            "(`label_names` renames, `unlabelled` ignores)"
        )
    return names.index(name)


def _question(task: TaskSpec, names: list[str], place: str, row: TableRow, value: Any) -> Example:
    question, context = (str(row[column]) for column in task.text)
    if value is None:
        return Example((question, context), None)
    try:
        if isinstance(value, dict):  # columns, as in Hugging Face datasets
            starts = value.get("answer_start") or [None] * len(value.get("text", []))
            entries = list(zip(value.get("text", []), starts, strict=True))
        else:
            entries = [(entry["text"], entry.get("answer_start")) for entry in value]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError(
            f"{place}: {task.label} {value!r} is not a list of answers; write each as "
            '{"text": ..., "answer_start": ...}'
        ) from None
    answers = tuple((text, _start(place, context, text, start)) for text, start in entries)
    return Example((question, context), answers)


def _start(place: str, context: str, text: str, start: int | None) -> int:
    """Return where the answer starts; without a number it must occur exactly once."""
    if start is not None and context[start : start + len(text)] == text:
        return start
    if start is not None or context.count(text) != 1:
        found = "not there" if start is not None else f"found {context.count(text)} times"
        where = f"at character {start}" if start is not None else "in the context"
        raise UserError(f"{place}: answer {text!r} is {found} {where}; correct answer_start")
    return context.index(text)


_KINDS: dict[str, Callable[[TaskSpec, list[str], str, TableRow, Any], Example]] = {
    "classification": _sentence,
    "regression": _number,
    "tagging": _tagged,
    "qa": _question,
}
