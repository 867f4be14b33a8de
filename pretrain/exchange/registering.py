"""An exported model in MLflow's model registry, tied to the run that trained it.

The exported files are registered as they are, so ``AutoModel.from_pretrained`` reads what
``mlflow artifacts download -u models:/NAME/VERSION`` writes.
"""

import hashlib
from pathlib import Path
from typing import Any

from convbert.data_pipeline.digests import file_sha256
from convbert.models.errors import UserError
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.run.timeline import Timeline
from convbert.pretrain.run.tracking_uri import SQLITE, without_login
from convbert.pretrain.tracking.mlflow_store import open_store
from convbert.pretrain.tracking.tracked_run import COPY_TAG, RunState, TrackedRun

_DIGEST_TAG = "convbert.digest"


def register_export(run: RunDirectory, exported: Path, step: int, name: str) -> str:
    """Register the files in ``exported`` as a version of the model ``name``; return its number.

    Files that are a version already are not registered again. Raises what ``require_delivered``
    raises, and ``UserError`` where the server refuses or cannot be reached.
    """
    state = require_delivered(run)
    try:
        return _register(run, exported, step, name, state.tracking_uri, str(state.run_id))
    except Exception as error:  # connections, permissions and stores share no base
        reason = without_login(" ".join(str(error).split()))
        raise UserError(
            f"{without_login(state.tracking_uri)}: could not register {name!r} ({reason}); "
            f"{exported} is complete, repeat the command"
        ) from error


def require_name(name: str) -> None:
    """Raise ``UserError`` for a name that MLflow gives no model, or that it cannot look up."""
    if not name.strip() or set(name) & set("/:'\""):
        raise UserError(
            f"--register {name!r}: no name of a model, which has no /, no : and no quotes; choose "
            "another"
        )


def require_delivered(run: RunDirectory) -> RunState:
    """Return the run's state in MLflow; raises ``UserError`` where it is not there (yet)."""
    state = TrackedRun.load(run.path).state
    sync = f"`convbert track sync {run.path}` first"
    if state.run_id is None:
        copied = COPY_TAG in state.tags
        why = "is a copy, whose own run is not" if copied else "not"
        raise UserError(f"{run.path}: {why} in MLflow yet; {sync}")
    database = state.tracking_uri.removeprefix(SQLITE)
    if database != state.tracking_uri and not Path(database).is_file():
        raise UserError(f"{database}: MLflow's database is not there; restore it, or {sync}")
    return state


def _register(
    run: RunDirectory, exported: Path, step: int, name: str, uri: str, run_id: str
) -> str:
    client = open_store(uri)
    digest = _digest(exported)
    for version in _versions(client, name):
        if version.tags.get(_DIGEST_TAG) == digest:
            return str(version.version)
    place = f"models/{name}/step-{step:08d}-{digest[:8]}"
    client.log_artifacts(run_id, str(exported), place)
    timeline = Timeline.load(run.open())
    tags = {
        _DIGEST_TAG: digest,
        "step": str(step),
        "flops": f"{timeline.flops(step):.6e}",
        "manifest": timeline.digest,
        "tokenizer": timeline.corpora[0].tokenizer_digest,
    }
    made = client.create_model_version(name, f"runs:/{run_id}/{place}", run_id, tags=tags)
    return str(made.version)


def _versions(client: Any, name: str) -> list[Any]:
    """Return the versions of a registered model; without that model create it."""
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
        return []
    return list(client.search_model_versions(f"name = '{name}'"))


def _digest(folder: Path) -> str:
    """Return the SHA-256 of the files' names and contents."""
    state = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        state.update(f"{path.relative_to(folder)}:{file_sha256(path)};".encode())
    return state.hexdigest()
