"""The base of every setting and record, and the checks of files that hold them."""

import json
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from yaml.composer import ComposerError

from convbert.models.errors import AbsentError, DamagedError, UserError
from convbert.models.faults import first_fault


class StrictModel(BaseModel):
    """A pydantic model that is frozen and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Model = TypeVar("Model", bound=BaseModel)


class YamlLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in one place, of which YAML would take the last alone."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Return keys and values; raises ``ComposerError`` where a second key stands."""
        node = super().compose_mapping_node(anchor)
        seen = set[tuple[str, str]]()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise ComposerError(None, None, f"{key.value} is there twice", key.start_mark)
                seen.add((key.tag, key.value))
        return node


def read_yaml(path: Path, loader: type[yaml.SafeLoader] = YamlLoader) -> Any:
    """Return what a YAML file says; raises ``UserError`` where it cannot be read or is not YAML."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise AbsentError(f"{path}: the file does not exist; check the path") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not YAML ({error}); save it as UTF-8") from None
    except ValueError as error:  # a name with a null character
        raise UserError(f"{str(path)!r}: cannot be read ({error}); check the path") from None
    return parse_yaml(text, path, loader)


def parse_yaml(text: str, place: object, loader: type[yaml.SafeLoader] = YamlLoader) -> Any:
    """Return what YAML text says; raises ``UserError`` naming ``place`` where it is not YAML."""
    try:
        return yaml.load(text, loader)
    # YAML's dates and numbers that are none, and lists in lists without end
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        if isinstance(error, yaml.MarkedYAMLError) and error.problem and error.problem_mark:
            mark = error.problem_mark
            reason = f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
        raise UserError(f"{place}: not valid YAML: {reason}; correct it") from None


def read_mapping(path: Path, loader: type[yaml.SafeLoader] = YamlLoader) -> dict[str, Any]:
    """Return the keys and values of a YAML file; an empty file has none."""
    content = read_yaml(path, loader) or {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected keys and values, found {type(content).__name__}")
    return content


def read_json(path: Path) -> dict[str, Any]:
    """Return the keys and values of a JSON file that a program wrote.

    Raises ``AbsentError`` where it does not exist, ``DamagedError`` where it is not a JSON object.
    """
    try:
        fields = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise AbsentError(f"{path}: no such file: give a directory with a {path.name}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (ValueError, RecursionError) as error:
        raise DamagedError(
            f"{path}: not a JSON file ({error}): copy it from its source again"
        ) from error
    if not isinstance(fields, dict):
        raise DamagedError(f"{path}: holds no JSON object: copy it from its source again")
    return fields


def validate(
    kind: type[Model], content: object, place: object, *, remedy: str = "", page: str = ""
) -> Model:
    """Return checked settings; ``UserError`` names the place, the key and the offending value.

    ``remedy`` ends every message, ``page`` is named where a key is unknown.
    """
    if text := _no_text(content):
        raise UserError(f"{place}: {text!r} holds what no file name or text can; correct it")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        unknown = error.errors()[0]["type"] == "extra_forbidden"
        hints = [f"{page} has the keys"] if unknown and page else []
        hints += [remedy] if remedy else []
        raise UserError("; ".join([f"{place}: {first_fault(error, kind)}", *hints])) from None


def _no_text(content: object) -> str:
    """Return a string inside ``content`` with a null character or half a character, or ""."""
    left, seen = [content], set[int]()  # YAML's lists may hold themselves
    while left:
        node = left.pop()
        if isinstance(node, str):
            if "\0" in node or any("\ud800" <= c <= "\udfff" for c in node):
                return node
        elif isinstance(node, dict | list) and id(node) not in seen:
            seen.add(id(node))
            left += [*node, *node.values()] if isinstance(node, dict) else node
    return ""


def parse(kind: type[Model], content: bytes, place: object, *, what: str, remedy: str) -> Model:
    """Return a record that a program wrote; ``DamagedError`` says that it is not ``what``."""
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise DamagedError(f"{place}: not {what} ({first_fault(error, kind)}); {remedy}") from None


def read_record(kind: type[Model], path: Path, *, what: str, remedy: str) -> Model:
    """Return what ``parse`` makes of a file; also ``DamagedError`` for what is no readable file."""
    try:
        content = path.read_bytes()
    except OSError as error:  # a directory, a loop of links, another user's
        raise DamagedError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    return parse(kind, content, path, what=what, remedy=remedy)
