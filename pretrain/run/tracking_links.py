"""Where MLflow's UI shows a run: addresses made without MLflow, to print and to write down.

The UI of MLflow 3.17 opens on pages for language-model traces unless an address names the workflow.
"""

import shlex
from urllib.parse import urlsplit

from convbert.pretrain.run.tracking_uri import without_login
from convbert.pretrain.settings.tracking import SQLITE

VIEW = "convbert"
"""Key of the saved view of an experiment that draws all curves over training FLOPs."""
_TRAINING = "workflowType=machine_learning"
_OWN_SERVER = "http://127.0.0.1:5000"
"""Where ``mlflow server`` is found that is started without further options."""


def runs_page(experiment_id: str) -> str:
    """Return the page of all runs of an experiment, relative to its server."""
    return f"#/experiments/{experiment_id}/runs?{_TRAINING}"


def curves_page(experiment_id: str) -> str:
    """Return the page of an experiment's curves over training FLOPs, relative to its server."""
    return f"{runs_page(experiment_id)}&viewStateShareKey={VIEW}&compareRunsMode=CHART"


def run_page(experiment_id: str, run_id: str) -> str:
    """Return the page of one run, relative to its server."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?{_TRAINING}"


def links(tracking_uri: str, experiment_id: str) -> list[str]:
    """Return lines that say where the runs of an experiment and their curves are shown.

    For a database the first one says how to start the server that shows it.
    """
    parts = urlsplit(without_login(tracking_uri))
    if parts.scheme in ("http", "https"):
        server, first = f"{parts.scheme}://{parts.netloc}{parts.path}", []
    else:
        server, first = _OWN_SERVER, [f"start MLflow: {_start(tracking_uri)}"]
    server = server.rstrip("/")
    return [
        *first,
        f"curves in MLflow: {server}/{curves_page(experiment_id)}",
        f"runs in MLflow: {server}/{runs_page(experiment_id)}",
    ]


def _start(tracking_uri: str) -> str:
    """Return the command that serves a database; what may hold a password is left out."""
    known = tracking_uri.startswith(SQLITE)
    store = shlex.quote(tracking_uri) if known else "$MLFLOW_TRACKING_URI"
    return f"mlflow server --backend-store-uri {store}"
