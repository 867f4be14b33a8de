"""Whether a command line would be accepted by ``convbert``, without running anything."""

from collections.abc import Sequence
from typing import Any


def check_arguments(command: Any, arguments: Sequence[str], parent: Any = None) -> tuple[str, Any]:
    """Parse ``arguments`` as the command line would; return the command's path and its values.

    Raises the parser's own error for an unknown command, an unknown option, a missing argument or
    a value of the wrong kind.
    """
    name = parent.invoked_subcommand if parent else "convbert"
    children = getattr(command, "commands", None)
    if children is None:
        context = command.make_context(name, list(arguments), parent=parent)
        return context.command_path, context.params
    context = command.context_class(command, info_name=name, parent=parent)
    first, *rest = arguments
    if first not in children:
        raise ValueError(f"{context.command_path}: there is no command {first!r}")
    context.invoked_subcommand = first
    return check_arguments(children[first], rest, context)
