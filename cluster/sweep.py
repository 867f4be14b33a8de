"""A sweep: one YAML file that names several runs and the settings of each."""

import math
from pathlib import Path
from typing import Any

import yaml

from convbert.models.errors import UserError
from convbert.models.schema import read_yaml


def read_sweep(path: Path) -> dict[str, tuple[str | None, list[str]]]:
    """Read ``NAME: {recipe: ..., KEY: VALUE, ...}`` into a recipe and settings for each run."""
    content = read_yaml(path)
    if not isinstance(content, dict) or not content:
        raise UserError(f"--array {path}: write one 'NAME: {{KEY: VALUE}}' for each run")
    found: dict[str, tuple[str | None, list[str]]] = {}
    for key, settings in content.items():
        name = str(key)
        if not isinstance(settings, dict) or name in ("", ".", "..") or "/" in name:
            raise UserError(f"--array {path}: '{name}': write it as NAME: {{KEY: VALUE}}")
        if name in found:  # 1 and '1'
            raise UserError(f"--array {path}: '{name}': stands there twice; rename one")
        values: dict[str, Any] = dict(settings)
        recipe = values.pop("recipe", None)
        if not isinstance(recipe, str | None):
            raise UserError(f"--array {path}: '{name}': recipe: give its name (got {recipe!r})")
        found[name] = recipe, [f"{key}={_as_yaml(value)}" for key, value in values.items()]
    return found


def _as_yaml(value: Any) -> str:
    """Return a value on one line, as a setting of the command line gives it."""
    return (
        yaml.safe_dump(value, default_flow_style=True, width=math.inf).removesuffix("...\n").strip()
    )
