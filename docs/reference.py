"""MkDocs hook: the pages about commands and settings, made from the code when the site is built."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic_core import PydanticUndefined


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {
        "reference/cli.md": commands(),
        "reference/config.md": settings(),
        "security.md": (Path(config.config_file_path).parent / "SECURITY.md").read_text(),
    }
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def commands() -> str:
    """Return a page with the help of every command."""
    import typer

    from convbert.pretrain.cli import app

    lines = ["# Commands", "", "Made from the command line's own help when this site is built.", ""]
    lines += _command(typer.main.get_command(app), None, "convbert", 2)
    return "\n".join(lines) + "\n"


def _command(command: Any, parent: Any, name: str, level: int) -> Iterator[str]:
    context = command.context_class(command, info_name=name, parent=parent)
    path = context.command_path
    children = getattr(command, "commands", {})
    if parent is not None:
        yield from ["#" * min(level, 3) + f" {path}", "", (command.help or "").strip(), ""]
    if not children:
        usage = " ".join(command.collect_usage_pieces(context))
        yield from ["```text", f"{path} {usage}", "```", ""]
        yield from _parameters(command, context)
    for child in sorted(children):
        yield from _command(children[child], context, child, level + (parent is not None))


def _parameters(command: Any, context: Any) -> Iterator[str]:
    rows = []
    for parameter in command.params:
        names = ", ".join([*parameter.opts, *parameter.secondary_opts])
        if parameter.param_type_name == "argument":
            names = (parameter.metavar or parameter.name).upper()
        default = parameter.default
        shown = "" if default is None or default is False or callable(default) else str(default)
        if parameter.required:
            shown = "required"
        rows.append(f"| `{names}` | {_cell(parameter.help)} | {_cell(shown)} |")
    if rows:
        yield from ["| option | meaning | default |", "| --- | --- | --- |", *rows, ""]


def settings() -> str:
    """Return a page with every key of every YAML file."""
    from convbert.cluster.site import Site
    from convbert.data_pipeline.corpus_build.build_settings import BuildConfig
    from convbert.pretrain.finetune.task import TaskSpec
    from convbert.pretrain.settings.run import RunConfig
    from convbert.pretrain.study.design import Design

    roots: list[tuple[str, str, type[BaseModel]]] = [
        ("A run", "Recipes and `key=value`; saved in the run's `config.yaml`.", RunConfig),
        ("A task", "`--task FILE`; see [fine-tuning](../finetuning.md).", TaskSpec),
        (
            "A corpus",
            "`convbert corpus build FILE`; see [corpora](../corpus-build.md).",
            BuildConfig,
        ),
        ("A site", "`--site FILE`; see [SLURM](../slurm.md).", Site),
        ("A study", "`convbert study FILE`; see [the study](../study.md).", Design),
    ]
    lines = [
        "# Settings",
        "",
        "Made from the models that check the files. Unknown keys are refused.",
    ]
    for title, text, model in roots:
        lines += ["", f"## {title}", "", text, "", "| key | type | default | meaning |"]
        lines += ["| --- | --- | --- | --- |", *_keys(model, "")]
    return "\n".join(lines) + "\n"


def _keys(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        section = _section(field.annotation)
        if section is not None and prefix.count(".") < 4:
            yield from _keys(section, f"{prefix}{name}.")
            continue
        default = "" if field.default is PydanticUndefined else repr(field.default)
        if field.is_required():
            default = "required"
        kind = _cell(str(getattr(field.annotation, "__name__", field.annotation)))
        if not isinstance(field.annotation, type):
            kind = _cell(str(field.annotation).replace("typing.", ""))
        yield f"| `{prefix}{name}` | {kind} | {_cell(default)} | {_cell(field.description)} |"


def _section(annotation: Any) -> type[BaseModel] | None:
    """Return the model of a section, also of one that may be null."""
    kinds = [a for a in getattr(annotation, "__args__", (annotation,)) if a is not type(None)]
    optional = getattr(annotation, "__origin__", None) is None and len(kinds) == 1
    only = kinds[0] if optional else None
    return only if isinstance(only, type) and issubclass(only, BaseModel) else None


def _cell(text: str | None) -> str:
    flat = " ".join((text or "").split()).replace("|", "\\|")
    return flat.replace("<", "&lt;").replace("[bold]", "").replace("*", "\\*").replace("_", "\\_")
