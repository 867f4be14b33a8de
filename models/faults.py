"""What pydantic finds wrong with settings, said in plain words and with a suggestion."""

import difflib
from collections.abc import Callable, Iterator
from typing import Any, TypeGuard, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from convbert.models.errors import choose_one

_SHOWN = 60  # characters of an offending value

_Details = dict[str, Any]
_WORDS: dict[str, str | Callable[[_Details], str]] = {
    "int_parsing": "give a whole number",
    "int_parsing_size": "give a smaller number",
    "int_type": "give a whole number",
    "int_from_float": "give a whole number",
    "float_parsing": "give a number",
    "float_type": "give a number",
    "finite_number": "give a finite number",
    "bool_parsing": "give true or false",
    "bool_type": "give true or false",
    "string_type": "give text, in quotes if it looks like a number",
    "list_type": "give a list, e.g. [a, b]",
    "tuple_type": "give a list, e.g. [a, b]",
    "dict_type": "give keys and values, e.g. {key: value}",
    "model_type": "give keys and values, e.g. {key: value}",
    "model_attributes_type": "give keys and values, e.g. {key: value}",
    "none_required": "leave it empty (null)",
    "missing": "it is missing; set it",
    "greater_than": lambda d: f"give a number above {d['gt']:,g}",
    "greater_than_equal": lambda d: f"give a number of at least {d['ge']:,g}",
    "less_than": lambda d: f"give a number below {d['lt']:,g}",
    "less_than_equal": lambda d: f"give a number of at most {d['le']:,g}",
    "too_short": lambda d: f"give {d['min_length']} or more",
    "too_long": lambda d: f"give {d['max_length']} or fewer",
    "string_too_short": "give text that is not empty",
    "enum": lambda d: f"choose {d['expected']}",
}


def first_fault(error: ValidationError, kind: type[BaseModel] | None = None) -> str:
    """Return ``key: what to do (got value)`` for one thing that pydantic found.

    An unknown key comes first: another that seems to be missing may be what was meant by it.
    ``kind`` is what was to be made: its keys are suggested.
    """
    faults = error.errors()
    first = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    place, given = first["loc"], first["input"]
    if first["type"] == "extra_forbidden":
        likely = _meant(place, kind) if kind else ""
        message = f"unknown key; {f'did you mean {likely}?' if likely else 'check the spelling'}"
        message += _got(given)
    else:
        message = what_to_do(first)
    where = ".".join(map(str, place))
    return f"{where}: {message}" if where else message


def what_to_do(fault: ErrorDetails) -> str:
    """Return ``what to do (got value)`` for a fault that pydantic found, without its place."""
    said = _what_to_do(fault["type"], fault["msg"], fault.get("ctx", {}), fault["input"])
    named = fault["type"] == "value_error" and said.startswith(repr(fault["input"]))
    return said if named else said + _got(fault["input"])


def _got(given: object) -> str:
    shown = repr(given)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
    return "" if isinstance(given, dict | bytes | BaseModel) else f" (got {shown})"


def _what_to_do(fault: str, said: str, details: _Details, given: object) -> str:
    words = _WORDS.get(fault, said.removeprefix("Value error, "))
    message = words if isinstance(words, str) else words(details)
    if fault == "literal_error":
        choices = [c.strip("' ") for c in details["expected"].replace(" or ", ", ").split(",")]
        message = choose_one(str(given), choices)
    return message


def _meant(place: tuple[int | str, ...], kind: type[BaseModel]) -> str:
    """Return the key that was probably meant, from here or from anywhere in ``kind``, or ""."""
    name, before = str(place[-1]), place[:-1]
    anywhere = (path for path in setting_paths(kind) if path.rpartition(".")[2] == name)
    if path := next(anywhere, ""):
        return path
    near = _alike(name, _keys(kind, before))
    return ".".join(map(str, (*before, near))) if near else ""


def _keys(kind: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """List the keys of settings ``kind`` at ``place`` inside them."""
    kinds = [kind]
    for part in place:
        fields = (k.model_fields.get(str(part)) for k in kinds)
        found = [m for f in fields if f is not None for m in _models(f.annotation)]
        # A number is a place in a list, whose kind is that of its elements.
        kinds = found or (kinds if isinstance(part, int) else [])
    return [name for k in kinds for name in k.model_fields]


def setting_paths(kind: type[BaseModel], before: str = "") -> Iterator[str]:
    """Yield every key of settings ``kind``, with dots, but those inside lists."""
    for name, field in kind.model_fields.items():
        yield f"{before}{name}"
        for inside in filter(_is_model, (field.annotation, *get_args(field.annotation))):
            yield from setting_paths(inside, f"{before}{name}.")


def _is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models in a type such as ``list[Source] | None``."""
    if _is_model(annotation):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _alike(given: str, known: list[str]) -> str:
    """Return a key that is close to ``given``, has its letters as initials, or contains it."""
    if close := difflib.get_close_matches(given, known, n=1):
        return close[0]
    short = given.lower()
    initials = {"".join(word[:1] for word in name.split("_")): name for name in reversed(known)}
    longer = [name for name in known if len(short) > 2 and (short in name or name in short)]
    return initials.get(short) or min(longer, key=len, default="")
