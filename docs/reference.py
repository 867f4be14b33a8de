"""MkDocs hook: the pages about commands and settings, made from the code when the site is built."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import settings_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {
        "reference/cli.md": commands(),
        "reference/config.md": settings_page.page(),
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
    """Yield the options of a command as a definition list, which fits a phone."""
    for parameter in command.params:
        names = ", ".join([*parameter.opts, *parameter.secondary_opts])
        if parameter.param_type_name == "argument":
            names = (parameter.metavar or parameter.name).upper()
        default = parameter.default
        shown = "" if default is None or default is False or callable(default) else str(default)
        remark = " Required." if parameter.required else f" Default: `{shown}`." if shown else ""
        meaning = _cell(parameter.help)
        stop = "" if meaning.endswith((".", "!", "?")) else "."
        yield from [f"`{names}`", f":   {meaning}{stop}{remark}", ""]


def _cell(text: str | None) -> str:
    flat = " ".join((text or "").split()).replace("|", "\\|")
    return flat.replace("<", "&lt;").replace("[bold]", "").replace("*", "\\*").replace("_", "\\_")
