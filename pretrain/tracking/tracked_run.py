"""A run directory's MLflow run: its identity in ``mlflow.json``, and where it is tracked.

A directory that was moved keeps its run. A copy has a run of its own, with all that the log holds
and tags that name the origin: two directories never write to one run.
"""

import contextlib
import hashlib
import os
import sqlite3
import threading
import time
import uuid
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field

from convbert.data_pipeline.atomic import atomic_write
from convbert.models.errors import AbsentError
from convbert.models.schema import StrictModel, read_record
from convbert.pretrain.run.tracking_links import links
from convbert.pretrain.run.tracking_uri import RUN_FILE, followed
from convbert.pretrain.settings.places import Place, beside, fate
from convbert.pretrain.settings.tracking import SQLITE, placed_store

EXPERIMENT = "convbert-pretraining"
"""The experiment of runs where nothing names another one."""
PARAM_CHARACTERS = 6000  # the longest parameter value that MLflow takes
COPY_TAG = "convbert.copy_of"
"""Tag of a copy's run: the run of its origin. ``COPY_TAG_directory`` is where that lay."""


class DataInput(StrictModel):
    """Data that a run read, as MLflow's UI lists it; ``profile`` holds what is known of them."""

    name: str
    digest: str
    source: str
    context: Literal["training", "evaluation"]
    profile: dict[str, str | int | float] = Field(default_factory=dict)


class RunState(StrictModel):
    """Contents of ``mlflow.json``: what the run is called and where it is tracked."""

    tracking_uri: str
    experiment: str
    run_name: str
    key: str = Field(default_factory=lambda: uuid.uuid4().hex)
    run_id: str | None = None
    experiment_id: str | None = None
    params: dict[str, str] = Field(default_factory=dict)
    tags: dict[str, str] = Field(default_factory=dict)
    inputs: list[DataInput] = Field(default_factory=list)
    status: str = "RUNNING"
    ended_ms: int | None = None
    place: Place | None = None


class TrackedRun:
    """The state of a run directory's MLflow run, stored in ``mlflow.json`` at every change.

    The training thread ends the run while the delivering thread learns its id, hence the lock.
    """

    def __init__(self, path: Path, state: RunState) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.state = state

    @classmethod
    def open(cls, run_dir: Path, described: RunState) -> Self:
        """Start or resume the run that is ``described``; a resumed one keeps its key."""
        path = run_dir / RUN_FILE
        before = _state_here(run_dir, described.tracking_uri) if path.exists() else described
        more = [entry for entry in described.inputs if entry not in before.inputs]
        state = described.model_copy(
            update={
                "key": before.key,
                "run_id": before.run_id,
                "experiment_id": before.experiment_id,
                "params": described.params or before.params,  # an evaluation describes none
                "tags": before.tags | described.tags,
                "inputs": [*before.inputs, *more],
                "place": Place.of(run_dir),
            }
        )
        run = cls(path, state)
        run.update()
        return run

    @classmethod
    def add(cls, run_dir: Path, described: RunState) -> Self:
        """Open a run that no process trains, whose outcome stays what it was.

        If its process died without a word, it was killed; one that was never tracked counts as
        finished.
        """
        if (run_dir / RUN_FILE).exists():
            before = cls.load(run_dir).state
            outcome = "KILLED" if before.status == "RUNNING" else before.status
            ended = before.ended_ms
        else:
            outcome, ended = "FINISHED", None
        over = {"status": outcome, "ended_ms": ended or _now_ms()}
        return cls.open(run_dir, described.model_copy(update=over))

    @classmethod
    def load(cls, run_dir: Path, tracking_uri: str | None = None) -> Self:
        """Read the run of ``run_dir``, and take it to another store if one is given.

        Raises ``AbsentError`` if it was never tracked. What became of the directory is considered,
        and stored with the next change only.
        """
        path = run_dir / RUN_FILE
        if not path.exists():
            if not run_dir.is_dir():
                raise AbsentError(f"{run_dir}: no such directory; name the directory of a run")
            raise AbsentError(f"{path}: no such file; was this run started with MLflow tracking?")
        return cls(path, _state_here(run_dir, tracking_uri))

    def update(self, **changes: Any) -> None:
        """Change fields of the state and store it."""
        with self._lock:
            self.state = self.state.model_copy(update=changes)
            with atomic_write(self._path) as file:
                file.write(self.state.model_dump_json(indent=2).encode() + b"\n")

    def end(self, status: str) -> None:
        """Note how and when the run ended."""
        self.update(status=status, ended_ms=_now_ms())


def _now_ms() -> int:
    return int(time.time() * 1000)


def resolve_experiment(run_dir: Path, name: str | None) -> str:
    """Return the MLflow experiment to use: ``name``, ``MLFLOW_EXPERIMENT_NAME`` or a default.

    That is the one in which the run is tracked already, else ``EXPERIMENT``.
    """
    known = _stored(run_dir)
    default = known.experiment if known else EXPERIMENT
    return name or os.environ.get("MLFLOW_EXPERIMENT_NAME") or default


def _stored(run_dir: Path) -> RunState | None:
    path = run_dir / RUN_FILE
    return _read_state(path) if path.exists() else None


def links_of(run_dir: Path) -> list[str]:
    """Return lines that say where MLflow shows a run, none before MLflow has received it.

    Raises ``DamagedError`` if its description cannot be read.
    """
    if not (run_dir / RUN_FILE).exists():
        return []
    state = TrackedRun.load(run_dir).state
    return links(state.tracking_uri, state.experiment_id) if state.experiment_id else []


def sent_before(run_dir: Path, settings: dict[str, str]) -> dict[str, str]:
    """Return of ``settings`` those that an earlier start of the run sent as parameters."""
    known = _stored(run_dir)
    return {} if known is None else {k: settings[k] for k in known.params if k in settings}


def _state_here(run_dir: Path, tracking_uri: str | None) -> RunState:
    """Return the stored state as it is for the directory in its present place."""
    path = run_dir / RUN_FILE
    stored = _read_state(path)
    before = stored.place
    uri = tracking_uri or followed(run_dir, stored.tracking_uri, before)
    changes: dict[str, Any] = {"tracking_uri": uri, "place": Place.of(run_dir)}
    if before is not None and fate(run_dir, before) == "copied":
        origin = {COPY_TAG: stored.run_id or "", f"{COPY_TAG}_directory": str(before.directory)}
        changes["tags"] = stored.tags | origin
        if not _came_along(run_dir, uri, stored, before):
            # The same at every look until it is stored: nothing is made twice after a crash.
            copied = f"{stored.key} {run_dir.resolve()} {path.stat().st_ctime_ns}"
            key = hashlib.sha256(copied.encode()).hexdigest()[:32]
            changes |= {"key": key, "run_id": None, "experiment_id": None}
    return stored.model_copy(update=changes)


def _came_along(run_dir: Path, uri: str, stored: RunState, before: Place) -> bool:
    """Return whether a copy's store is the database that was copied with it, and has its run."""
    old = stored.tracking_uri
    if uri == old or not uri.startswith(SQLITE):
        return False
    if placed_store(uri, beside(run_dir)) != placed_store(old, beside(before.directory)):
        return False
    place = f"{Path(uri.removeprefix(SQLITE)).as_uri()}?mode=ro"
    query = "SELECT count(*) FROM runs WHERE run_uuid = ?"
    try:
        with contextlib.closing(sqlite3.connect(place, uri=True)) as opened:
            return bool(opened.execute(query, (stored.run_id,)).fetchone()[0])
    except sqlite3.Error:  # there is none, or it is damaged
        return False


def flatten(params: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested parameters as MLflow's flat strings, with dotted names."""
    flat: dict[str, str] = {}
    for key, value in params.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)[:PARAM_CHARACTERS]
    return flat


def _read_state(path: Path) -> RunState:
    remedy = "remove it to start a new MLflow run"
    return read_record(RunState, path, what="the description of a tracked run", remedy=remedy)
