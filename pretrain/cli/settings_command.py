"""Commands whose faults are said in this project's words, and those that take settings."""

import typer
from typer import core


class Command(core.TyperCommand):
    """A command that refuses a value in plain words, where typer passes on pydantic's."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Parse as always."""
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            from pydantic import ValidationError  # typer has loaded it by now

            from convbert.models.faults import what_to_do

            if isinstance(error.__cause__, ValidationError):
                error.message = what_to_do(error.__cause__.errors()[0])
            raise


class SettingsCommand(Command):
    """A command with a recipe and settings: ``--steps 10`` is answered with ``steps=10``."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Parse as always; where an option is unknown, say how a setting is written."""
        own = {name for parameter in self.params for name in parameter.opts}
        for number, arg in enumerate(args):
            name, _, value = arg.partition("=")
            if arg == "--":
                break
            if not name.startswith("--") or name in own or (key := _setting(name[2:])) is None:
                continue
            following = args[number + 1] if number + 1 < len(args) else ""
            value = value or ("VALUE" if following.startswith("-") else following) or "VALUE"
            raise typer.BadParameter(
                f"settings are written without dashes: {key}={value}",
                ctx=ctx,
                param_hint=f"'{name}'",
            )
        return super().parse_args(ctx, args)


def _setting(name: str) -> str | None:
    """Return the key of a run's settings that ``name`` is meant to be, None where it is none."""
    from convbert.models.faults import setting_paths
    from convbert.pretrain.settings.run import RunConfig

    name = name.replace("-", "_")
    paths = list(setting_paths(RunConfig))
    if name in paths or (name.partition(".")[0] in paths and "." in name):
        return name
    return next((path for path in paths if path.rpartition(".")[2] == name), None)
