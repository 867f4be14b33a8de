"""Every command has a place in the help and an example that its own options accept."""

import re
import shlex
from collections.abc import Iterator

import pytest
import typer
from typer.testing import CliRunner

from convbert.pretrain.cli import app
from convbert.pretrain.cli.overview import GROUPS

EXAMPLES = {path: text for paths in GROUPS.values() for path, text in paths.items()}


def commands(group, prefix: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}"


def test_every_command_is_listed_once():
    listed = [path for paths in GROUPS.values() for path in paths]
    assert sorted(commands(typer.main.get_command(app))) == sorted(listed)


@pytest.mark.parametrize("path", EXAMPLES)
def test_the_example_is_a_command_that_parses(path):
    command, arguments = typer.main.get_command(app), shlex.split(EXAMPLES[path])
    for name in path.split():
        assert arguments.pop(0) == name
        command = command.commands[name]
    command.make_context(path, arguments)


def test_help_shows_groups_and_examples():
    shown = CliRunner().invoke(app, ["--help"]).output
    assert [shown.index(panel) for panel in GROUPS] == sorted(shown.index(p) for p in GROUPS)
    assert "Example: convbert plan small" in CliRunner().invoke(app, ["plan", "-h"]).output


def test_a_setting_given_as_an_option_is_answered_with_how_to_write_it():
    for arguments, said in (
        (["--steps", "10"], "steps=10"),
        (["--learning-rate=1e-3"], "optimizer.learning_rate=1e-3"),
        (["--optimizer.lr", "3"], "optimizer.lr=3"),
        (["--steps"], "steps=VALUE"),
    ):
        for command in ("pretrain", "plan", "submit", "sweep"):
            ran = CliRunner().invoke(app, [command, "tiny", *arguments])
            assert ran.exit_code == 2
            assert said in ran.output
    assert "No such option" in CliRunner().invoke(app, ["plan", "tiny", "--frob"]).output


def test_the_version_is_shown():
    ran = CliRunner().invoke(app, ["--version"])
    assert ran.exit_code == 0
    assert ran.output.startswith("convbert ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["study", "--seeds", "x"], "--seeds': give a whole number (got 'x')"),
        (["study", "--seeds", "0"], "--seeds': give a number of at least 1 (got '0')"),
        (["study", "--flops", "much"], "--flops': give a number (got 'much')"),
        (["study", "--format", "yaml"], "--format': 'yaml' is not one of 'table', 'csv', 'json'."),
    ],
)
def test_a_value_that_cannot_be_is_refused_in_plain_words(arguments, said):
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert said in result.output
    assert not re.search("Input should|Value error", result.output)
