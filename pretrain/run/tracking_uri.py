"""Where a run is tracked: the URI of an MLflow server or database, checked without MLflow."""

import os
import re
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import unquote

from pydantic import BaseModel, ValidationError

from convbert.models.errors import UserError
from convbert.pretrain.settings.places import Place, beside, fate, located
from convbert.pretrain.settings.tracking import SQLITE, placed_store

RUN_FILE = "mlflow.json"
"""In a run directory: what tracks the run."""
OFF = "off"
"""Tracking URI of a run that keeps its ``metrics.jsonl`` and sends nothing to MLflow."""
FILES = "mlartifacts"
"""The folder beside a SQLite store that holds copies of artifacts, some named as a run's files."""
_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks")
_LOGIN = re.compile(r"://[^\s/]*@")
_FORMS = "use sqlite:///FILE.db, http://HOST:PORT or off"


def without_login(text: str) -> str:
    """Return a text as logs may have it: ``http://host`` for ``http://user:password@host``."""
    return _LOGIN.sub("://", text)


def resolve_uri(run_dir: Path, tracking_uri: str | None) -> str:
    """Return the MLflow URI to use: ``tracking_uri``, which may be ``OFF``, or the default.

    That is ``MLFLOW_TRACKING_URI``, the store that tracks the run already, or else a SQLite file
    beside the run directory, which need not exist yet. Raises ``UserError`` for one that MLflow
    cannot use.
    """
    folder = run_dir.resolve().parent
    default = _known(run_dir) or f"{SQLITE}{folder / 'mlflow.db'}"
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or default
    if uri == OFF:
        return uri
    if uri.startswith("file:") or "://" not in uri:
        shown = without_login(uri)
        raise UserError(
            f"tracking URI {shown!r}: MLflow 3 no longer keeps runs in plain folders; {_FORMS}"
        )
    if uri.startswith(SQLITE):
        return f"{SQLITE}{_database(uri, folder)}"
    scheme, _, rest = uri.partition("://")
    # What a package adds to MLflow is known by its entry point.
    added = {entry.name for entry in entry_points(group="mlflow.tracking_store")}
    if not rest or (scheme.split("+")[0] not in _SCHEMES and scheme not in added):
        shown = without_login(uri)
        raise UserError(f"tracking URI {shown!r}: is of no kind that MLflow knows; {_FORMS}")
    return uri


def _database(uri: str, folder: Path) -> Path:
    """Return the absolute path of a SQLite database; its folder may be that of the run."""
    database = Path(uri.removeprefix(SQLITE)).resolve()
    if "?" in str(database) or unquote(str(database)) != str(database):
        raise UserError(
            f"tracking URI {uri!r}: MLflow takes a question mark for the end of the path and %41 "
            "for A, and would look elsewhere; name another place or server as tracking.uri, or off"
        )
    if database.is_dir():
        raise UserError(f"tracking URI {uri!r}: is a folder; give a file in it, such as mlflow.db")
    if not database.parent.is_dir() and database.parent != folder:
        raise UserError(
            f"tracking URI {uri!r}: no folder {database.parent}; create it first, or name another "
            "store as tracking.uri (of a run that is there: in its config.yaml)"
        )
    return database


class _Tracked(BaseModel):
    """What ``mlflow.json`` says of the store."""

    tracking_uri: str
    place: Place | None = None


def _known(run_dir: Path) -> str | None:
    """Return the store that tracks the run, if one does; damage is for its reader to say."""
    try:
        known = _Tracked.model_validate_json((run_dir / RUN_FILE).read_bytes())
    except (OSError, ValidationError):
        return None
    return followed(run_dir, known.tracking_uri, known.place)


def followed(run_dir: Path, uri: str, before: Place | None) -> str:
    """Return the store of a run that was tracked at ``uri`` when it lay ``before``.

    A database that lay beside the run is looked for beside it again. A run that was moved without
    it stays with it, a copy gets one of its own.
    """
    if before is None:
        return uri
    old = None if fate(run_dir, before) == "copied" else before.directory
    stored = placed_store(uri, beside(before.directory))
    return placed_store(stored, located(run_dir, old))
