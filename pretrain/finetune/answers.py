"""Answers as data files write them, and where in the context they are."""

import json
from typing import Any

from convbert.models.errors import UserError
from convbert.pretrain.finetune import cells

_FORM = 'a list of answers; write each as {"text": ..., "answer_start": ...}'

Answers = tuple[tuple[str, int], ...]
"""The text and the first character of each answer; empty where a question has none."""


def read_answers(place: str, column: str, context: str, value: Any) -> Answers:
    """Return the answers of a cell.

    They may be a list of objects (SQuAD), lists of texts and starts (Hugging Face datasets), texts
    without starts, or any of these as JSON in a cell of a table.
    """
    try:
        entries = _entries(value)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        raise UserError(f"{place}: {column} {cells.shown(value)} is not {_FORM}") from None
    return tuple(_placed(place, column, context, text, start) for text, start in entries)


def _entries(value: Any) -> list[tuple[Any, Any]]:
    """Return (text, start) of each answer, unchecked."""
    if isinstance(value, str):
        looks_like_json = value.lstrip().startswith(("[", "{"))
        return _entries(json.loads(value)) if looks_like_json else [(value, None)]
    if isinstance(value, dict):
        texts, starts = value["text"], value.get("answer_start")
        if isinstance(texts, str):
            return [(texts, starts)]
        return list(zip(texts, [None] * len(texts) if starts is None else starts, strict=True))
    found: list[tuple[Any, Any]] = []
    for entry in value:
        found.append(
            (entry, None) if isinstance(entry, str) else (entry["text"], entry.get("answer_start"))
        )
    return found


def _placed(place: str, column: str, context: str, value: Any, start: Any) -> tuple[str, int]:
    """Return an answer with its start; without a number it must occur exactly once."""
    text = cells.text(place, column, value)
    if not text.strip():
        raise UserError(f"{place}: an answer is empty; write [] for a question without an answer")
    if start is None:
        count = context.count(text)
        if count != 1:
            raise UserError(
                f"{place}: answer {text!r} is found {count} times in the context; correct "
                "answer_start"
            )
        return text, context.index(text)
    first = _integer(start)
    if first is None:
        raise UserError(
            f"{place}: answer_start {cells.shown(start)} is not a number of characters; correct it"
        )
    if context[first : first + len(text)] != text:
        raise UserError(
            f"{place}: answer {text!r} is not there at character {first}; correct answer_start"
        )
    return text, first


def _integer(value: Any) -> int | None:
    """Return a start of 0 or more, also where it is written as text or as 3.0."""
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value >= 0 and value == value // 1 else None
