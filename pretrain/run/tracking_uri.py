"""Where a run is tracked: the URI of an MLflow server or database, checked without MLflow."""

import json
import os
from importlib.metadata import entry_points
from pathlib import Path

from convbert.models.errors import UserError

RUN_FILE = "mlflow.json"
"""In a run directory: what tracks the run."""
SQLITE = "sqlite:///"
OFF = "off"
"""Tracking URI of a run that keeps its ``metrics.jsonl`` and sends nothing to MLflow."""
_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks")
_FORMS = "use sqlite:///FILE.db, http://HOST:PORT or off"


def resolve_uri(run_dir: Path, tracking_uri: str | None) -> str:
    """Return the MLflow URI to use: ``tracking_uri``, which may be ``OFF``, or the default.

    That is ``MLFLOW_TRACKING_URI``, the server that tracks the run already, or else a SQLite file
    beside the run directory, which need not exist yet. Raises ``UserError`` for one that MLflow
    cannot use.
    """
    beside = run_dir.resolve().parent
    default = _server(run_dir) or f"{SQLITE}{beside / 'mlflow.db'}"
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or default
    if uri == OFF:
        return uri
    if uri.startswith("file:") or "://" not in uri:
        raise UserError(
            f"tracking URI {uri!r}: MLflow 3 no longer keeps runs in plain folders; {_FORMS}"
        )
    if uri.startswith(SQLITE):
        return f"{SQLITE}{_database(uri, beside)}"
    scheme, _, rest = uri.partition("://")
    # What a package adds to MLflow is known by its entry point.
    added = {entry.name for entry in entry_points(group="mlflow.tracking_store")}
    if not rest or (scheme.split("+")[0] not in _SCHEMES and scheme not in added):
        raise UserError(f"tracking URI {uri!r}: is of no kind that MLflow knows; {_FORMS}")
    return uri


def _database(uri: str, beside: Path) -> Path:
    """Return the absolute path of a SQLite database; its folder may be that of the run."""
    database = Path(uri.removeprefix(SQLITE)).resolve()
    if database.is_dir():
        raise UserError(f"tracking URI {uri!r}: is a folder; give a file in it, such as mlflow.db")
    if not database.parent.is_dir() and database.parent != beside:
        raise UserError(f"tracking URI {uri!r}: no folder {database.parent}; create it first")
    return database


def _server(run_dir: Path) -> str | None:
    """Return the server that tracks the run, if one does; damage is for its reader to say."""
    try:
        known = json.loads((run_dir / RUN_FILE).read_bytes())["tracking_uri"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return known if str(known).startswith(("http://", "https://")) else None
