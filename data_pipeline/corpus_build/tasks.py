"""What makes tasks idempotent: results with names of their own that appear whole or not at all."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convbert.data_pipeline.atomic import atomic_directory
from convbert.models.errors import UserError


def key_of(**parts: Any) -> str:
    """Name a result by everything that decides it (values that JSON can hold)."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def once(folder: Path, make: Callable[[Path], None]) -> None:
    """Let ``make`` fill ``folder`` unless it is there; it appears when it is complete.

    Two processes may do the same at once: the first to finish wins, both results are equal.
    Raises ``UserError`` if it cannot be written.
    """
    if folder.is_dir():
        return
    try:
        with atomic_directory(folder) as temporary:
            make(temporary)
    except OSError as error:
        if not folder.is_dir():
            reason = error.strerror or error  # numpy's errors have no number
            raise UserError(
                f"{folder}: cannot be written ({reason}); make room and start again: finished work "
                "is kept"
            ) from None
