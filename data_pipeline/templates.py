"""Templates of pages, reports and scripts, all read in the same way."""

from jinja2 import Environment, PackageLoader, StrictUndefined


def templates(package: str, *, html: bool, folder: str = ".") -> Environment:
    """Return the Jinja environment for the templates in a package; an unknown name is an error.

    Values are escaped for ``html``; other texts keep their last line end.
    """
    return Environment(
        loader=PackageLoader(package, folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=html,
        keep_trailing_newline=not html,
    )
