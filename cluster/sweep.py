"""A sweep: one YAML file that names several runs and the settings of each."""

import json
from pathlib import Path
from typing import Any

from convbert.models.errors import UserError
from convbert.models.schema import read_yaml


def read_sweep(path: Path) -> dict[str, tuple[str | None, list[str]]]:
    """Read ``NAME: {recipe: ..., KEY: VALUE, ...}`` into a recipe and settings for each run."""
    content = read_yaml(path)
    if not isinstance(content, dict) or not content:
        raise UserError(f"--array {path}: write one 'NAME: {{KEY: VALUE}}' for each run")
    found = {}
    for name, settings in content.items():
        if not isinstance(settings, dict) or str(name) in (".", "..") or "/" in str(name):
            raise UserError(f"--array {path}: '{name}': write it as NAME: {{KEY: VALUE}}")
        values: dict[str, Any] = dict(settings)
        recipe = values.pop("recipe", None)
        found[str(name)] = recipe, [f"{key}={json.dumps(value)}" for key, value in values.items()]
    return found
