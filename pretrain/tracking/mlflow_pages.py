"""What MLflow's pages of a run and of its experiment say, and what they draw first."""

import time
from typing import Any

from convbert.pretrain.tracking.mlflow_notes import (
    COST_TAGS,
    NOTE_TAG,
    Told,
    experiment_note,
    is_ours,
    run_note,
)
from convbert.pretrain.tracking.mlflow_views import VIEW_TAG, view
from convbert.pretrain.tracking.tracked_run import RunState

_MOST_RUNS = 100
"""Newest runs of an experiment that its description and its curves are made of."""


def present(client: Any, experiment_id: str, state: RunState, told: Told) -> None:
    """Describe a run and its experiment, where the server has something else.

    All that the experiment says is made of what the server has of its runs, so several processes
    may do this at once.
    """
    from mlflow.entities import RunTag

    tags = told.tags()
    known = client.get_run(state.run_id).data.tags
    if is_ours(known.get(NOTE_TAG)):
        tags[NOTE_TAG] = run_note(state, told, experiment_id)
    fresh = [RunTag(key, value) for key, value in tags.items() if known.get(key) != value]
    if fresh:
        client.log_batch(state.run_id, tags=fresh)
    runs = client.search_runs(  # those that have a cost, not their child runs
        [experiment_id],
        f"tags.{COST_TAGS[0]} LIKE '%'",
        max_results=_MOST_RUNS,
        order_by=["attributes.start_time DESC"],
    )
    known = client.get_experiment(experiment_id).tags
    note, before = experiment_note(experiment_id, runs), known.get(NOTE_TAG)
    if is_ours(before) and note != before:
        client.set_experiment_tag(experiment_id, NOTE_TAG, note)
    metrics = {name for run in runs for name in run.data.metrics}
    drawn = view(metrics, known.get(VIEW_TAG), int(1000 * time.time()))
    if drawn is not None:
        client.set_experiment_tag(experiment_id, VIEW_TAG, drawn)
