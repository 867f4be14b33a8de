"""Commands that take settings as key=value, and say so where one is given as an option."""

import typer
from typer import core


class SettingsCommand(core.TyperCommand):
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
