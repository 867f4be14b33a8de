"""Cells of a row: each is read as what its column holds, or refused with file and line."""

import math
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from convbert.models.errors import UserError
from convbert.pretrain.finetune.task import TaskSpec

_SHOWN = 60  # characters of an offending value
# Not \s and not str.split(): a no-break space is part of a word.
_BREAKS = re.compile(r"[\t\r\n]")
_GAPS = re.compile(r"[ \t\r\n]+")


def shown(value: object) -> str:
    """Return a value for a message."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def missing(value: object) -> bool:
    """Return whether a cell holds nothing: no value, NaN, or text without a sign."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and math.isnan(value))


def text(place: str, column: str, value: object) -> str:
    """Return a text; a number is taken as it is written."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value != value:
        raise UserError(f"{place}: {column} {shown(value)} is not text; write one text in each row")
    written = str(value)
    if not _encodable(written):
        raise UserError(
            f"{place}: {column} {shown(value)} holds half of a surrogate pair; correct the text"
        )
    return written


def number(place: str, column: str, value: object) -> float:
    """Return a finite number, which may be written as text."""
    try:
        # Python reads 1_5 as 15, which no file of data means.
        strange = isinstance(value, bool) or (isinstance(value, str) and "_" in value)
        found = math.nan if strange else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise UserError(f"{place}: {column} {shown(value)} is not a number; correct or remove it")
    return found


def class_name(task: TaskSpec, place: str, value: object) -> str:
    """Return the name of a class or tag, without spaces around it and renamed as the task says."""
    bare = str(value).strip()
    # Files of predictions have a class a line, beside others in columns.
    named = isinstance(value, str | int | float) and _encodable(bare) and not _BREAKS.search(bare)
    if not named:
        raise UserError(
            f"{place}: {task.label} {shown(value)} is not the name of one class; write a text or a "
            "number"
        )
    name = task.label_names.get(str(value), task.label_names.get(bare, bare))
    if name.lower() in ("", "nan") and name not in (task.labels or ()):
        raise UserError(
            f"{place}: {task.label} {shown(value)} is no label; correct the row, leave it out by "
            "`where`, or name the class in `labels`"
        )
    return name


def words(place: str, column: str, value: object) -> list[str]:
    """Return a list of words, or those of a text between spaces."""
    if isinstance(value, list | tuple):
        found = [text(place, column, word) for word in value]
    else:
        found = [word for word in _GAPS.split(text(place, column, value)) if word]
    if not found or not all(word.strip(" ") and not _BREAKS.search(word) for word in found):
        what = "an empty word, or one of several lines," if found else "no words"
        raise UserError(f"{place}: {column} holds {what}; correct the row")
    return found


def tags(place: str, column: str, value: object) -> list[Any]:
    """Return a list of tags, or those of a text between spaces; each is checked as a class."""
    if isinstance(value, list | tuple):
        return list(value)
    return [tag for tag in _GAPS.split(text(place, column, value)) if tag]


def distinct(place: str, names: Iterable[str]) -> list[str]:
    """Return the classes among the labels; refuses two that are written as the same number."""
    found = sorted(set(names))
    by_value: dict[Decimal, str] = {}
    for name in found:
        value = _as_number(name)
        if value is not None and by_value.setdefault(value, name) != name:
            raise UserError(
                f"{place}: {by_value[value]!r} and {name!r} are one number written in two ways; "
                "write all alike, or rename one by `label_names`"
            )
    return found


def repeated(names: Sequence[str], used: Iterable[str]) -> str | None:
    """Return the first column that a task uses and that the file has twice."""
    return next((name for name in used if names.count(name) > 1), None)


def _as_number(name: str) -> Decimal | None:
    """Return a finite number exactly: ids of many digits differ in the last of them."""
    try:
        found = Decimal(name)
    except InvalidOperation:
        return None
    return found if found.is_finite() and "_" not in name else None


def _encodable(written: str) -> bool:
    try:
        written.encode()
    except UnicodeEncodeError:
        return False
    return True
