"""Where MLflow's SQLite database says that files are, when it was moved or copied with them.

MLflow stores absolute paths. What a copy adds would land among the original's files, and a browser
would find nothing once those are gone.
"""

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlsplit

FILES = "mlartifacts"
"""Directory beside a database in which its experiments keep their files."""
_STORED = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def take_files_along(database: Path) -> None:
    """Make a database that was moved name its files where they lie now: beside it.

    The place in which it was made is that of experiment 0. One that was moved without its files
    goes on with them where they are, if they are still there. Raises ``sqlite3.Error``.
    """
    here = database.resolve().parent / FILES
    with contextlib.closing(sqlite3.connect(database, timeout=60)) as opened, opened:
        query = "SELECT artifact_location FROM experiments WHERE experiment_id = 0"
        made = (opened.execute(query).fetchone() or [""])[0]
        old = made.removesuffix("/0")
        if old == here.as_uri() or not old.endswith(f"/{FILES}") or not _is_gone(old, here):
            return
        for table, column in _STORED:
            known = {row[1] for row in opened.execute(f"PRAGMA table_info({table})")}
            if column in known:
                opened.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (here.as_uri(), len(old) + 1, old, len(old) + 1, f"{old}/"),
                )


def _is_gone(old: str, here: Path) -> bool:
    """Return whether files are no longer at the place ``old``, or came along to ``here``."""
    there = Path(unquote(urlsplit(old).path))
    try:
        return not there.is_dir() or (here.is_dir() and not here.samefile(there))
    except OSError:  # another user's
        return True
