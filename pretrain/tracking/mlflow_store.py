"""MLflow's SQLite database, which appears whole or not at all.

MLflow makes its tables in a hundred steps in the file itself. Several processes that do so at once,
or one that is killed meanwhile, leave a database that MLflow refuses ever after. So the first one
makes it under a lock and a temporary name.
"""

import contextlib
import logging
import os
import sqlite3
from pathlib import Path
from typing import Any

from convbert.data_pipeline.atomic import fsync_directory
from convbert.data_pipeline.locks import locked
from convbert.models.errors import DamagedError
from convbert.pretrain.run.tracking_uri import SQLITE
from convbert.pretrain.tracking.mlflow_files import FILES, take_files_along


def open_store(tracking_uri: str) -> Any:
    """Return an MLflow client; a SQLite database that does not exist yet is made first.

    Raises ``DamagedError`` for one that MLflow cannot use and that holds no run, because its
    creation was cut off, say; whatever MLflow raises for others.
    """
    from mlflow import MlflowClient

    # It also raises what it logs with a traceback: a full disk would fill the log of a run, too.
    logging.getLogger("mlflow.store.db.utils").addFilter(_has_no_traceback)
    if not tracking_uri.startswith(SQLITE):
        return MlflowClient(tracking_uri)
    database = Path(tracking_uri.removeprefix(SQLITE))
    if not _has_content(database):
        with locked(database.with_name(f".{database.name}.lock")):
            if not _has_content(database):
                _make(database)
    _require_database(database)  # MLflow tries a file of another kind for two minutes
    try:
        take_files_along(database)
        client = MlflowClient(tracking_uri)
        client.search_experiments(max_results=1)
    except Exception as error:
        if _may_hold_runs(database):
            raise
        _forget(tracking_uri)
        raise _unusable(database, error, ", and no run is in it") from None
    return client


def _has_no_traceback(record: logging.LogRecord) -> bool:
    return not record.exc_info


def _forget(tracking_uri: str) -> None:
    """Let MLflow open the file anew next time, when another one may be in its place."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    engine = getattr(SqlAlchemyStore, "_engine_map", {}).get(tracking_uri)
    if engine is not None:
        engine.dispose()


def _unusable(database: Path, error: Exception, lost: str = "") -> DamagedError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return DamagedError(
        f"{database}: is no database that MLflow can use ({reason}){lost}; unless another program "
        f"is just making it, move it away (`mv {database} {database}.broken`) and run `convbert "
        "track sync` for each run: all that they measured is in their metrics.jsonl"
    )


def _has_content(database: Path) -> bool:
    return database.exists() and database.stat().st_size > 0


def _make(database: Path) -> None:
    """Make the database under another name, then give it its own; the caller holds the lock."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for left in database.parent.glob(f".{database.name}.*.tmp*"):
        left.unlink(missing_ok=True)  # by a process that was killed: this one has the lock
    temporary = database.with_name(f".{database.name}.{os.getpid()}.tmp")
    store = SqlAlchemyStore(f"{SQLITE}{temporary}", (database.parent / FILES).as_uri())
    store.engine.dispose()
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    temporary.replace(database)
    fsync_directory(database.parent)


def _require_database(database: Path) -> None:
    """Raise ``DamagedError`` for a file that SQLite cannot read."""
    try:
        _first(database, "SELECT count(*) FROM sqlite_master")
    except sqlite3.OperationalError:  # locked, say: MLflow waits for it
        return
    except sqlite3.DatabaseError as error:
        raise _unusable(database, error) from None


def _may_hold_runs(database: Path) -> bool:
    """Return whether a database that MLflow refuses has runs, or somebody is writing to it."""
    try:
        return _first(database, "SELECT count(*) FROM runs") > 0
    except sqlite3.OperationalError as error:
        return error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    except sqlite3.DatabaseError:
        return False


def _first(database: Path, query: str) -> int:
    """Return the number that a query finds, without changing anything."""
    place = f"{database.absolute().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(place, uri=True)) as opened:
        return int(opened.execute(query).fetchone()[0])
