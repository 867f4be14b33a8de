"""Every number on the command line has a range, whatever command it belongs to."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from convbert.models.errors import UserError
from convbert.pretrain.cli import app
from convbert.pretrain.exchange.averaging import parse_average
from convbert.pretrain.settings.recipes import resolve

# Where nothing of something is a meaning of its own.
ZERO = {
    ("submit", "--retries"), ("corpus submit", "--retries"), ("preflight", "--gpus"),
    ("plan", "--price"), ("shards head", "--first"), ("show", "--share"),
    ("report", "--price"), ("watch", "--port"),
}  # fmt: skip
ZERO_ANYWHERE = {"--seed", "--namespaces"}
UPPER = {
    ("plan", "--mfu"): ("1.01", "40"),
    ("show", "--share"): ("1.01",),
    ("tokenizer train", "--character-coverage"): ("1.01",),
}


def commands(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in sorted(group.commands.items()):
        full = f"{path} {name}".strip()
        if hasattr(command, "commands"):
            yield from commands(command, full)
        else:
            yield full, command


def numbers() -> list[tuple[str, Any, Any]]:
    """Every option and argument of a command that takes a number."""
    return [
        (path, command, parameter)
        for path, command in commands(typer.main.get_command(app))
        for parameter in command.params
        if is_number(parameter)
    ]


def is_number(parameter: Any) -> bool:
    described = getattr(parameter, "type_descriptor", None)
    if described is None:  # typer on click itself
        return parameter.type.name.split()[0] in ("integer", "float")
    return described.annotation in (int, float, list[int], list[float])


def accepts(command: Any, parameter: Any, value: str) -> bool:
    """Return whether the parser takes a value, as typed and as its callback checks it."""
    context = command.context_class(command)
    given = [value] if parameter.multiple or parameter.nargs != 1 else value
    try:
        parameter.process_value(context, given)
    except typer.BadParameter:
        return False
    return True


NUMBERS = numbers()
IDS = [f"{path} {parameter.name}" for path, _, parameter in NUMBERS]


def test_the_walk_finds_the_numbers():
    assert len(NUMBERS) > 30
    assert {"plan mfu", "finetune step", "shards split shares", "pretrain processes"} <= set(IDS)


@pytest.mark.parametrize(("path", "command", "parameter"), NUMBERS, ids=IDS)
def test_a_number_out_of_its_range_is_refused(path, command, parameter):
    name = parameter.opts[0] if parameter.opts[0].startswith("--") else parameter.name
    for value in (
        "-1",
        "-2",
        "nan",
        "inf",
        "-inf",
        "1e999",
        "one",
        "",
        *UPPER.get((path, name), ()),
    ):
        assert not accepts(command, parameter, value), value
    zero = (path, name) in ZERO or name in ZERO_ANYWHERE
    assert accepts(command, parameter, "0") == zero
    default = parameter.get_default(command.context_class(command))
    for value in default if isinstance(default, list | tuple) else [default]:
        assert value is None or accepts(command, parameter, str(value))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(text=st.text(alphabet="last:0123²½٣ -+.e[]", max_size=8))
def test_an_average_is_last_and_a_number_or_refused(text):
    with contextlib.suppress(UserError):
        assert parse_average(text) >= 1


PIECES = [
    "model",
    "size",
    "overrides",
    "num_layers",
    "steps",
    "seed",
    ".",
    "..",
    "=",
    "{",
    "}",
    "[",
]
PIECES += [
    "]",
    ":",
    ",",
    " ",
    "1",
    "-1",
    "nan",
    "x",
    "'",
    '"',
    "&a",
    "*a",
    "!!python",
    "2020-13-45",
    "\0",
]


@settings(max_examples=80, deadline=None, derandomize=True)
@given(parts=st.lists(st.sampled_from(PIECES), max_size=8))
def test_settings_are_read_or_refused(parts):
    with contextlib.suppress(UserError):
        resolve("tiny", ["".join(parts)])


@pytest.mark.parametrize(
    "setting", ["model.overrides={num_layers: 1", "steps", "=1", "model=3", "a..b=1", "model.=1"]
)
def test_a_setting_that_is_none_is_named(setting):
    with pytest.raises(UserError, match=r"override|recipe"):
        resolve("tiny", [setting])
