"""The page of settings: every key of every YAML file, made from the models that check the files."""

import inspect
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from convbert.cluster.site import Site
from convbert.data_pipeline.corpus_build.build_settings import BuildConfig
from convbert.models.architecture import EncoderConfig, PretrainingConfig
from convbert.models.presets import preset
from convbert.pretrain.finetune.task import TaskSpec
from convbert.pretrain.settings.run import RunConfig
from convbert.pretrain.study.design import Design

ROOTS: tuple[tuple[str, str, type[BaseModel]], ...] = (
    ("A run", "A recipe, and `key=value`; saved as the run's `config.yaml`.", RunConfig),
    ("A task", "`--task FILE`; see [fine-tuning](../finetuning.md).", TaskSpec),
    ("A corpus", "`convbert corpus build FILE`; see [corpora](../corpus-build.md).", BuildConfig),
    ("A site", "`--site FILE`; see [SLURM](../slurm.md).", Site),
    ("A study", "`convbert study FILE`; see [the study](../study.md).", Design),
)

_INTRODUCTION = """\
# Settings

Every key of every file, made from the models that check the files. A key that is not here is
refused. In a file each dot is one level of indentation: `optimizer.clip` is the key `clip` below
`optimizer`. After `convbert pretrain RECIPE` and after `--set` the same key is written
`optimizer.clip=0.5`; the value is YAML. A name that ends in `[]` is a list, and the keys below it
are those of each entry.
"""

_OVERRIDES = """\
### model.overrides

These keys change the size that `model.preset` names, and the generator follows. Without them the
values are those of the preset ([sizes](../model.md)).
"""

_OF_PRESET = {
    "generator_size": "share of the discriminator's width that the generator has",
    "generator_depth": "share of the discriminator's layers that the generator has",
}
"""Arguments of ``preset`` that no model describes."""

_KINDS: dict[Any, str] = {
    int: "whole number",
    float: "number",
    bool: "`true` or `false`",
    str: "text",
    Path: "path",
    Any: "any value",
}
_LIMITS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


@dataclass(frozen=True)
class Key:
    """A key of a file, and the field that checks its value."""

    path: str
    field: FieldInfo
    like: str | None = None
    """The section that this one is like, where it is one."""

    @property
    def meaning(self) -> str:
        """What the key says, with the unit of its value."""
        return " ".join((self.field.description or "").split())

    @property
    def kind(self) -> str:
        """Which values the key takes, in words."""
        return in_words(self.field.annotation, self.field.metadata)

    @property
    def default(self) -> Any:
        """The value without the key."""
        return self.field.get_default(call_default_factory=True)

    @property
    def example(self) -> Any:
        """A value that the key takes; another than the default where the type names one."""
        if self.field.examples:
            return self.field.examples[0]
        choices = literals(self.field.annotation)
        return next((choice for choice in choices if choice != self.default), self.default)

    def check_example(self) -> None:
        """Raise pydantic's error where the key would not take its example."""
        kind = Any if self.field.annotation is None else self.field.annotation
        TypeAdapter(kind).validate_python(yaml.safe_load(as_yaml(self.example)))


def keys(
    model: type[BaseModel], prefix: str = "", known: dict[type[BaseModel], str] | None = None
) -> Iterator[Key]:
    """Yield all keys of a model, those of its sections (also of ones in lists) with dots.

    A section of a kind that was there before is one key that refers to it.
    """
    known = {} if known is None else known
    for name, field in model.model_fields.items():
        section, listed = _section(field.annotation)
        path = f"{prefix}{name}{'[]' if listed else ''}"
        if section in known:
            yield Key(path, field, known[section])
            continue
        if section is None or listed:
            yield Key(path, field)
        if section is not None:
            known[section] = path
            yield from keys(section, f"{path}.", known)


def overrides() -> Iterator[Key]:
    """Yield the keys that ``model.overrides`` takes, under their own names."""
    for name, field in EncoderConfig.model_fields.items():
        if name != "vocab_size":  # the shards decide it
            yield Key(name, field)
    for name in inspect.signature(preset).parameters:
        if name in _OF_PRESET:
            yield Key(
                name,
                FieldInfo(
                    annotation=float, default=None, description=_OF_PRESET[name], examples=[0.5]
                ),
            )
        elif name in PretrainingConfig.model_fields:
            yield Key(name, PretrainingConfig.model_fields[name])


def _section(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """Return the model that a field holds (or None), and whether it holds a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    for part in get_args(annotation):
        section, listed = _section(part)
        if section is not None:
            return section, listed or get_origin(annotation) in (list, tuple)
    return None, False


def literals(annotation: Any) -> list[Any]:
    """Return the values that a type names; both of a switch."""
    if annotation is bool:
        return [True, False]
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [value for part in get_args(annotation) for value in literals(part)]


def in_words(annotation: Any, metadata: tuple[Any, ...] | list[Any] = ()) -> str:
    """Return a type in words, with its limits."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        return in_words(parts[0], (*annotation.__metadata__, *metadata))
    if annotation is type(None):
        return "`null`"
    if origin is Literal:
        return "one of " + ", ".join(f"`{as_yaml(value)}`" for value in parts)
    if origin in (Union, types.UnionType):
        return " or ".join(in_words(part, metadata) for part in parts)
    if origin in (list, tuple):
        several = Ellipsis not in parts and len(parts) > 1
        return f"list of {len(parts)} numbers" if several else f"list of {in_words(parts[0])}"
    if origin is dict:
        return f"keys ({in_words(parts[0])}) with values ({in_words(parts[1])})"
    if _section(annotation)[0] is not None:
        return "keys and values"
    return _KINDS[annotation] + _limits(metadata)


def _limits(metadata: tuple[Any, ...] | list[Any]) -> str:
    constraints = [
        *metadata,
        *(inner for outer in metadata for inner in getattr(outer, "metadata", ())),
    ]
    found = [
        f"{words} {getattr(constraint, name):,g}"
        for constraint in constraints
        for name, words in _LIMITS.items()
        if getattr(constraint, name, None) is not None
    ]
    return f" {' and '.join(dict.fromkeys(found))}" if found else ""


def as_yaml(value: Any) -> str:
    """Return a value as it is written in a file or after ``key=``."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Path):
        return str(value)
    value = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def page() -> str:
    """Return the page in Markdown."""
    lines = [_INTRODUCTION]
    for title, text, model in ROOTS:
        lines += [f"## {title}", "", text, ""]
        section = ""
        for key in keys(model):
            first = key.path.partition(".")[0] if "." in key.path else ""
            if first not in ("", section):
                lines += [f"### {first.removesuffix('[]')}", ""]
            section = first
            lines += _entry(key, key.path)
        if model is RunConfig:
            lines += [_OVERRIDES]
            for key in overrides():
                lines += _entry(key, f"model.overrides.{key.path}")
    return "\n".join(lines)


def _entry(key: Key, path: str) -> list[str]:
    """Return a key as an entry of a definition list."""
    if key.like:
        return [
            f"`{path}`",
            f":   {_capital(key.meaning) or 'Section'}: the keys of `{key.like}`.",
            "",
        ]
    rule = "required" if key.field.is_required() else f"default `{as_yaml(key.default)}`"
    if path.startswith("model.overrides."):
        rule = "default: the preset's" if key.field.is_required() or key.default is None else rule
    shown = path.replace("[]", "") if "[]." not in path else path.rpartition(".")[2]
    separator = ": " if "[]." in path else "="
    meaning = key.meaning.replace("<", "&lt;").replace("[", "\\[")
    meaning = meaning.replace("*", "\\*").replace("_", "\\_") if "`" not in meaning else meaning
    written = f"{shown}{separator}{as_yaml(key.example)}"
    return [
        f"`{path}`",
        f":   {_capital(meaning)}{'' if meaning.endswith('.') else '.'}  ",
        f"    {_capital(key.kind)}; {rule}. Example: `{written}`",
        "",
    ]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
