"""Texts of a site profile: what may stand in them, and how they are quoted in job scripts.

Three readers must not misread them: SLURM reads ``#SBATCH`` lines, bash reads commands, and YAML
has made a number of whatever looks like one.
"""

import re
import shlex
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

_VARIABLE = re.compile(
    r"\$(?:(?P<dollar>\$)|(?P<name>[A-Za-z_]\w*)"
    r"|\{(?P<braced>[A-Za-z_]\w*)(?::-(?P<default>[\w./:+-]*))?\})"
)
_NEEDS_QUOTES = re.compile(r"[\s\"'\\]")


def _text(value: object) -> object:
    """Take a number for its digits; pydantic refuses the rest."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


def _one_line(value: str) -> str:
    if not value or not value.isprintable():
        raise ValueError("must be one line of printable characters and not empty")
    return value


def _word(value: str) -> str:
    if value.split() != [value]:
        raise ValueError("must be one word, without spaces")
    return _one_line(value)


def _matching(pattern: str, message: str) -> AfterValidator:
    """Return the check that a value matches a pattern as a whole."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(message)
        return value

    return AfterValidator(check)


def _place(value: str) -> str:
    if "$" in _VARIABLE.sub("", _one_line(value)):
        raise ValueError("only $NAME, ${NAME} and ${NAME:-VALUE} are expanded, no commands")
    if not value.startswith(("/", "$")):
        raise ValueError("must be an absolute path or begin with a variable, such as $TMPDIR")
    return value


Text = Annotated[str, BeforeValidator(_text), AfterValidator(_one_line)]
"""One line, whatever is in it."""
Word = Annotated[str, BeforeValidator(_text), AfterValidator(_word)]
"""One line without spaces: names and lists of names, in SLURM's notation."""
Variable = Annotated[
    str,
    _matching(
        r"[A-Za-z_][A-Za-z0-9_]*",
        "a variable's name has letters, digits and _, and begins with no digit",
    ),
]
Memory = Annotated[
    str,
    BeforeValidator(_text),
    _matching(
        r"\d+[KMGTkmgt]?",
        "must be a whole number with K, M, G or T, such as 480G, or 0 for all",
    ),
]
Place = Annotated[str, AfterValidator(_place)]
"""A path on the node, where ``$NAME``, ``${NAME}`` and ``${NAME:-VALUE}`` are expanded."""
Duration = Annotated[
    str,
    BeforeValidator(_text),
    _matching(r"(\d+-)?\d+(:\d+){0,2}", "must be minutes, MM:SS, HH:MM:SS or DAYS-HH:MM:SS"),
]


def directive(value: str) -> str:
    """Return a value as ``#SBATCH`` lines need it, which have quotes and backslashes of their own.

    Source: ``_get_argument`` in SLURM's ``src/sbatch/opt.c``.
    """
    if not _NEEDS_QUOTES.search(value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def expanded(value: str, key: str = "") -> str:
    """Return a shell word for a value whose variables the shell expands, and nothing else.

    ``$$`` is a dollar. With ``key``, an unset variable ends the shell with a message that names the
    key; without, it is empty.
    """
    return _joined(value, lambda name: f":?unset on this node, but {key} names it" if key else "-")


def _joined(value: str, otherwise: Callable[[str], str]) -> str:
    parts: list[str] = []
    end = 0
    for found in _VARIABLE.finditer(value):
        parts += [shlex.quote(value[end : found.start()])] if found.start() > end else []
        end = found.end()
        name, default = found["name"] or found["braced"], found["default"]
        if found["dollar"]:
            parts.append(shlex.quote("$"))
        elif default is not None:
            parts.append(f'"${{{name}:-{default}}}"')
        else:
            parts.append(f'"${{{name}{otherwise(name)}}}"')
    parts += [shlex.quote(value[end:])] if end < len(value) or not parts else []
    return "".join(parts)


def has_variables(value: str) -> bool:
    """Return whether the shell would expand something in a value."""
    return any(not found["dollar"] for found in _VARIABLE.finditer(value))
