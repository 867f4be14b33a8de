"""Runs on an MLflow server: found by a name of our own, or created, and described."""

import getpass
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convbert.models.errors import UserError
from convbert.pretrain.run.tracking_uri import FILES, SQLITE, without_login
from convbert.pretrain.tracking.mlflow_names import BRANCHES, LAYOUT, LAYOUT_TAG, of_curve
from convbert.pretrain.tracking.tracked_run import DataInput

RUN_TAG = "convbert.run"
PARENT_TAG = "mlflow.parentRunId"
_CONTEXT_TAG = "mlflow.data.context"
_TRAINING = {"mlflow.experimentKind": "custom_model_development"}
"""Tag of an experiment for which the UI offers training runs, not language-model traces."""
_REPLACED_TAG = "convbert.replaced"
BATCH_METRICS = 1000  # the most that MLflow takes in one request
_BATCH_PARAMS = 100  # the most that MLflow takes in one request
_DIGEST_CHARACTERS = 36  # the longest dataset digest that MLflow takes; the profile has it whole


def find_or_create_experiment(client: Any, name: str, tracking_uri: str) -> str:
    """Return the id of an experiment; a new one keeps its files beside a SQLite database.

    Raises ``UserError`` for one that was deleted, whose name MLflow does not give to another.
    """
    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "deleted":
        shown = without_login(tracking_uri)
        raise UserError(
            f"{shown}: the MLflow experiment '{name}' is deleted; restore it with "
            f"`MLFLOW_TRACKING_URI={shown} mlflow experiments restore --experiment-id "
            f"{found.experiment_id}`, or go on with another tracking.experiment"
        )
    if found is not None:
        return str(found.experiment_id)
    location = None  # where the server says
    if tracking_uri.startswith(SQLITE):
        location = (Path(tracking_uri.removeprefix(SQLITE)).parent / FILES).as_uri()
    try:
        return str(client.create_experiment(name, location, _TRAINING))
    except Exception:
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)  # another run has made it meanwhile


def find_run(client: Any, experiment_id: str, key: str) -> Any:
    """Return the run with our tag ``key``, None where the server has none."""
    found = client.search_runs([experiment_id], f"tags.`{RUN_TAG}` = '{key}'")
    return found[0] if found else None


def find_or_create_run(
    client: Any,
    experiment_id: str,
    key: str,
    name: str,
    tags: Mapping[str, str],
    start_ms: int | None = None,
) -> Any:
    """Return the run with our tag ``key``, which was chosen before the server knew of the run."""
    if found := find_run(client, experiment_id, key):
        return found
    ours = {RUN_TAG: key, LAYOUT_TAG: LAYOUT, "mlflow.user": _user()}
    ours |= {"mlflow.source.name": "convbert", "mlflow.source.type": "LOCAL"}
    return client.create_run(
        experiment_id, start_time=start_ms, run_name=name, tags=ours | dict(tags)
    )


def current_run(
    client: Any,
    experiment_id: str,
    key: str,
    name: str,
    tags: Mapping[str, str],
    params: Mapping[str, str],
) -> Any:
    """Return the run with our tag ``key``: another one than before where ``params`` changed.

    MLflow never changes a parameter nor renames a metric, so everything is sent again to a new run,
    also where an earlier version sent other names. The old one hands its nested runs on and goes to
    MLflow's deleted runs, unless a registered model refers to it.
    """
    run = find_or_create_run(client, experiment_id, key, name, tags)
    known, layout = run.data.params, run.data.tags.get(LAYOUT_TAG)
    changed = any(known.get(param, value) != value for param, value in params.items())
    if changed or layout != LAYOUT:
        old = run.info
        client.set_tag(old.run_id, _REPLACED_TAG, key)
        client.set_tag(old.run_id, RUN_TAG, f"{key}/{old.run_id}")
        run = find_or_create_run(client, experiment_id, key, name, tags, old.start_time)
    for left in client.search_runs([experiment_id], f"tags.`{_REPLACED_TAG}` = '{key}'"):
        if left.info.run_id != run.info.run_id:
            _put_away(client, experiment_id, left.info.run_id, run.info.run_id)
    return run


def _put_away(client: Any, experiment_id: str, old: str, new: str) -> None:
    """Hand the nested runs of ``old``, and the curve of its branches, on to the run ``new``."""
    for child in client.search_runs([experiment_id], f"tags.`{PARENT_TAG}` = '{old}'"):
        client.set_tag(child.info.run_id, PARENT_TAG, new)
    keys = [key for key in client.get_run(old).data.metrics if key.startswith(BRANCHES)]
    points = [point for key in keys for point in _renamed(client.get_metric_history(old, key))]
    steps = {point.step for point in points}
    costs = client.get_metric_history(old, "curve_flops") if points else []
    points += [point for point in costs if point.step in steps]
    for start in range(0, len(points), BATCH_METRICS):
        client.log_batch(new, metrics=points[start : start + BATCH_METRICS])
    client.set_tag(old, _REPLACED_TAG, f"by {new}")
    if not client.search_model_versions(f"run_id = '{old}'"):
        client.delete_run(old)


def _renamed(points: Sequence[Any]) -> list[Any]:
    """Return points of a curve by its name of today."""
    from mlflow.entities import Metric

    return [Metric(of_curve(p.key), p.value, p.timestamp, p.step) for p in points]


def describe(
    client: Any,
    run: Any,
    params: Mapping[str, str],
    tags: Mapping[str, str],
    inputs: Sequence[DataInput],
) -> None:
    """Send what the server does not have of the run yet; MLflow keeps each input only once."""
    from mlflow.entities import Param, RunTag

    run_id = run.info.run_id
    new_params = [Param(k, v) for k, v in params.items() if k not in run.data.params]
    new_tags = [RunTag(k, v) for k, v in tags.items() if run.data.tags.get(k) != v]
    for start in range(0, max(len(new_params), len(new_tags)), _BATCH_PARAMS):
        part = slice(start, start + _BATCH_PARAMS)
        client.log_batch(run_id, params=new_params[part], tags=new_tags[part])
    if inputs:
        client.log_inputs(run_id, list(map(_dataset_input, inputs)))


def _dataset_input(data: DataInput) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=data.name,
        digest=data.digest[:_DIGEST_CHARACTERS],
        source_type="http" if "://" in data.source else "local",
        source=json.dumps({"uri": data.source}),
        profile=json.dumps({**data.profile, "digest": data.digest}),
    )
    return DatasetInput(dataset, [InputTag(_CONTEXT_TAG, data.context)])


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"
