"""Where an experiment keeps its files, and what to do where they cannot be put or seen there."""

import json
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from convbert.models.errors import UserError
from convbert.pretrain.run.tracking_uri import without_login

_REMEDY = (
    "start `mlflow server` with --artifacts-destination, so that files go through the server, and "
    "use a new tracking.experiment, since an experiment keeps its place"
)


def unservable(run: Any, tracking_uri: str, error: Exception) -> str:
    """Return why a file of ``run`` could not be sent, and what to do about it, on one line."""
    reason = without_login(" ".join(str(error).split())) or type(error).__name__
    if isinstance(error, UserError):
        return reason
    place = run.info.artifact_uri
    if isinstance(error, ImportError):
        remedy = f"install what MLflow needs for {urlsplit(place).scheme}:// (pip install boto3, "
        remedy += f"azure-storage-blob or google-cloud-storage), or {_REMEDY}"
    elif _is_remote(tracking_uri) and _is_local(place):
        remedy = _REMEDY
    elif _is_local(place):
        remedy = "make that directory writable for this user"
    elif place.startswith("mlflow-artifacts:"):
        remedy = "start `mlflow server` with --serve-artifacts and a destination it may write to"
    else:
        remedy = f"check that this machine may write there, or {_REMEDY}"
    return f"{reason}; its experiment keeps files at {place}: {remedy}; then `convbert track sync`"


def require_served(client: Any, run_id: str, tracking_uri: str, name: str) -> None:
    """Raise ``UserError`` if a server does not see the file ``name`` that was just sent.

    An experiment with a local path as its place makes MLflow write to this machine's disk, without
    a word, where a server on another machine finds nothing.
    """
    if not _is_remote(tracking_uri):
        return
    place = client.get_run(run_id).info.artifact_uri
    if not _is_local(place) or name in _listed(
        tracking_uri, run_id, str(PurePosixPath(name).parent)
    ):
        return
    raise UserError(
        f"the experiment keeps files at {place}, a directory of the server's machine, and this "
        f"machine wrote to its own; {_REMEDY}; then `convbert track sync`"
    )


def _listed(tracking_uri: str, run_id: str, folder: str) -> set[str]:
    """Return the files of a run's folder as the server sees them."""
    from mlflow.tracking._tracking_service.utils import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    params = {"run_id": run_id} | ({} if folder == "." else {"path": folder})
    answer = http_request(
        get_default_host_creds(tracking_uri), "/api/2.0/mlflow/artifacts/list", "GET", params=params
    )
    if answer.status_code != 200:
        return set()
    return {entry["path"] for entry in json.loads(answer.text).get("files", [])}


def _is_remote(tracking_uri: str) -> bool:
    return urlsplit(tracking_uri).scheme in ("http", "https")


def _is_local(place: str) -> bool:
    return urlsplit(place).scheme in ("", "file")
