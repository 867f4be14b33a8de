"""Pages made from the code and pages that quote it: settings, messages, outputs."""

import ast
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from convbert.pretrain.cli import app

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
# What a number counts or measures must be said where the key is explained.
UNIT = re.compile(
    r"updates?\b|seconds?\b|tokens?\b|rows?\b|sequences?\b|GB\b|MB\b|GiB\b|bytes\b|TFLOP|FLOPs\b"
    r"|shares?\b|factors?\b|number|words?\b|runs?\b|process|threads?\b|cores\b|GPUs?\b|epochs\b"
    r"|characters?\b|probability|checkpoints\b|pairs\b|batches\b|losses\b|overflows\b|norm\b|lines\b"
    r"|skips\b|documents\b|Celsius|z-score|starts\b|node\b|longer\b|fewer\b|text of"
)


def loaded(name: str) -> ModuleType:
    """Load a script of the documentation, which is no part of the package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


SETTINGS = loaded("settings_page")
KEYS = [
    pytest.param(key, id=f"{model.__name__}.{key.path}")
    for _, _, model in SETTINGS.ROOTS
    for key in SETTINGS.keys(model)
    if not key.like
] + [pytest.param(key, id=f"overrides.{key.path}") for key in SETTINGS.overrides()]


def test_every_setting_says_what_it_is_in_which_unit_and_shows_a_value_that_it_takes() -> None:
    faults = []
    for parameter in KEYS:
        key = parameter.values[0]
        numeric = re.match(r"(whole )?number", key.kind)
        if not key.meaning:
            faults.append(f"{parameter.id}: no description")
        elif numeric and not UNIT.search(key.meaning):
            faults.append(f"{parameter.id}: {key.meaning!r} names no unit")
        try:
            key.check_example()
        except Exception as error:
            faults.append(f"{parameter.id}: example: {error}")
        if key.example in (None, "", [], (), {}):
            faults.append(f"{parameter.id}: no example; give Field(examples=[...])")
    assert faults == [], "\n".join(faults)
    assert len(KEYS) > 250


def test_the_page_of_settings_has_every_key_and_no_type_of_python() -> None:
    page = SETTINGS.page()
    for key in (
        "optimizer.learning_rate", "model.overrides.tie_encoders", "filters.gopher.min_words",
        "network.interface", "recipe.qa.stride", "phases[].start", "rate_factors",
    ):  # fmt: skip
        assert f"\n`{key}`\n" in page, key
    assert re.findall(r"Optional\[|\bNone\b|PosixPath|typing|Literal|FieldInfo", page) == []


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int | None, "whole number or `null`"),
        (tuple[float, float], "list of 2 numbers"),
        (list[str], "list of text"),
        (dict[str, int], "keys (text) with values (whole number)"),
        (bool, "`true` or `false`"),
    ],
)
def test_types_are_said_in_words(annotation: object, words: str) -> None:
    assert SETTINGS.in_words(annotation) == words


def test_every_option_of_every_command_says_what_it_is() -> None:
    def silent(command: Any, path: str) -> Iterator[str]:
        own = (p for p in command.params if not p.help and p.name != "help")
        yield from (f"{path} {parameter.name}" for parameter in own)
        for name, child in getattr(command, "commands", {}).items():
            yield from silent(child, f"{path} {name}")

    assert list(silent(typer.main.get_command(app), "convbert")) == []


def strings_of_the_code() -> list[str]:
    """Return every text in the code, a zero byte where it has a value filled in."""
    found = []
    for folder in ("models", "data_pipeline", "pretrain", "cluster"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    parts = [p.value if isinstance(p, ast.Constant) else "\0" for p in node.values]
                    found.append("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return found


def test_every_message_of_the_troubleshooting_page_is_one_of_the_code() -> None:
    page = (DOCS / "troubleshooting.md").read_text()
    terms = re.findall(r"^(`.+`)\n:   (.*)$", page, re.M)
    quoted = [
        m for term, text in terms if "PyTorch's" not in text for m in re.findall("`(.+?)`", term)
    ]
    assert len(quoted) > 35
    code = "\n".join(re.sub(r"\s+|%[sd]", " ", text) for text in strings_of_the_code())
    missing = [
        message
        for message in quoted
        if not re.search(".*?".join(map(re.escape, re.split(r"\s*\.\.\.\s*", message))), code)
    ]
    assert missing == []


def test_outputs_are_what_a_terminal_shows_in_the_end() -> None:
    outputs = loaded("outputs")
    drawn_over = "a bar 10%\r\x1b[2Ka bar 99%\r\n\x1b[1A\x1b[2Kdone\r\n\x1b[1mbold\x1b[0m end"
    assert outputs._screen(drawn_over) == "done\nbold end"
    assert outputs.excerpt("1\n2\n3\n4\n5", "first 1, last 2") == "1\n...\n4\n5"


def test_a_page_gets_the_output_of_its_commands(tmp_path: Path) -> None:
    outputs = loaded("outputs")
    page = tmp_path / "page.md"
    page.write_text(
        "```yaml\n# a.yaml\nkey: 1\n```\n\n<!-- needs: a GPU -->\n```bash\nfalse\n```\n\n"
        "1. A list:\n\n    ```bash\n    cat a.yaml\n    pwd\n    ```\n\n    <!-- output -->\n"
        '    ```text title="Output, 3 s"\n    old\n    ```\n\nThe end.\n'
    )
    folder = tmp_path / "work"
    folder.mkdir()
    outputs.write(page, folder, times=True)
    written = re.sub(r"\d+ s", "0 s", page.read_text())
    assert written.endswith(
        "    cat a.yaml\n    pwd\n    ```\n\n    <!-- output -->\n"
        '    ```text title="Output, 0 s"\n    # a.yaml\n    key: 1\n    /home/you/work\n    ```\n'
        "\nThe end.\n"
    )
