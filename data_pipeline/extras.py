"""Packages that only some installations need."""

import importlib
from typing import Any

from convbert.models.errors import UserError


def load_extra(module: str, extra: str, purpose: str) -> Any:
    """Import a module of an optional package; ``UserError`` names the extra that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{purpose} needs the package '{error.name or module}'; "
            f"install it with the extra '{extra}': in the checkout, pip install '.[{extra}]'"
        ) from None
