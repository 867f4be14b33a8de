"""Recipes and overrides: how the configuration of a run comes about.

A recipe is a short YAML difference against the defaults of ``RunConfig``; ``key=value`` overrides
are dotted paths with YAML values. Unknown keys are refused. What results is saved as
``config.yaml`` in the run directory and is enough to repeat the run.
"""

from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from convbert.models.errors import UserError, choose_one
from convbert.models.schema import parse_yaml, read_mapping, validate
from convbert.pretrain.settings.places import (
    CHECKPOINTS,
    CONFIG,
    ENVIRONMENT,
    beside,
    fate,
    located,
    place_of_start,
)
from convbert.pretrain.settings.run import RunConfig


def merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Return ``base`` with the values of ``change`` in place of its own, section by section."""
    merged = dict(base)
    for key, value in change.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if nested else value
    return merged


def parse_override(text: str) -> dict[str, Any]:
    """Turn ``a.b=value`` into ``{"a": {"b": value}}``, the value read as YAML."""
    path, separator, value = text.partition("=")
    if not separator or not path:
        raise UserError(f"override '{text}': write it as key=value, e.g. optimizer.clip=0.5")
    parsed: Any = parse_yaml(value, f"override '{text}'")
    for key in reversed(path.split(".")):
        parsed = {key: parsed}
    return parsed


def recipe_names() -> list[str]:
    """List the recipes that ship with the package."""
    folder = resources.files("convbert.pretrain") / "recipes"
    return sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".yaml"))


def names_run(recipe: str) -> bool:
    """Return whether a run directory is named; a shipped recipe's name is always the recipe."""
    return recipe not in recipe_names() and (Path(recipe) / CONFIG).is_file()


def read_recipe(recipe: str) -> dict[str, Any]:
    """Read a recipe by its shipped name, the path of a YAML file, or a run directory's."""
    path = Path(recipe)
    if names_run(recipe):
        path = path / CONFIG
    elif path.suffix not in (".yaml", ".yml"):
        if recipe not in recipe_names():
            raise UserError(
                f"recipe '{recipe}' is unknown; {choose_one(recipe, recipe_names())} or give the "
                "path of a .yaml file or of a run directory"
            )
        path = Path(str(resources.files("convbert.pretrain") / "recipes" / f"{recipe}.yaml"))
    content = read_mapping(path)
    if not content:
        raise UserError(f"{path}: has no settings; write some, or take a recipe that has them")
    return _found_again(path, content) if path.name == CONFIG else content


def _found_again(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a run's ``config.yaml`` with absolute paths.

    What a copy would write to is not looked for where the original lies.
    """
    run_dir = path.parent
    before = place_of_start(run_dir)
    alone = not (run_dir / ENVIRONMENT).exists() and (run_dir / CHECKPOINTS).exists()
    if before is None and not alone:  # no run's, or one of an earlier version
        return content
    config = validate(RunConfig, content, path, page="docs/training.md")
    found = config.placed(located(run_dir, before.directory if before else None))
    if fate(run_dir, before) == "copied":
        own = config.placed(located(run_dir, None))
        found = found.model_copy(update={"tracking": own.tracking, "checkpoint": own.checkpoint})
    return found.model_dump(mode="json")


def resolve(recipe: str, overrides: list[str] | None = None) -> RunConfig:
    """Combine defaults, a recipe and ``key=value`` overrides; raises ``UserError``."""
    content = read_recipe(recipe)
    for text in overrides or []:
        content = merge(content, parse_override(text))
    return validate(RunConfig, content, f"recipe '{recipe}'", page="docs/training.md")


def dump(config: RunConfig, run_dir: Path) -> str:
    """Return the resolved configuration as the YAML of the run in ``run_dir``."""
    stored = config.absolute().placed(beside(run_dir)).model_dump(mode="json")
    return yaml.safe_dump(stored, sort_keys=False)


def load(path: Path) -> RunConfig:
    """Read a resolved configuration."""
    return resolve(str(path))
