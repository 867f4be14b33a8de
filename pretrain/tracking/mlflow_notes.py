"""Descriptions of runs and experiments in MLflow: model, data, cost, pictures of curves, links.

They are Markdown in a tag. Each ends with a digest of itself in a comment, which the UI does not
show: a description that a person has changed is left alone.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from convbert.pretrain.run.tracking_links import curves_page, run_page, runs_page
from convbert.pretrain.tracking.mlflow_names import is_result
from convbert.pretrain.tracking.mlflow_views import TAG_CHARACTERS
from convbert.pretrain.tracking.records import (
    ArtifactRecord,
    MetricsRecord,
    StepRecord,
    process_hours,
)
from convbert.pretrain.tracking.tracked_run import RunState

NOTE_TAG = "mlflow.note.content"
COST_TAGS = ("updates", "training_flops", "process_hours")
"""Tags of a run that the description of its experiment is made of."""
PICTURE_TAG = "mlflow.convbert.picture"
"""Tag with the newest picture of a curve; the UI hides tags that begin like MLflow's own."""
_MOST_PICTURES = 4
_MOST_RUNS = 20
_MARK = "\n\n<!-- convbert "


@dataclass
class Told:
    """What the records of a run tell: its cost so far, and the pictures of its curves."""

    step: int = 0
    flops: float = 0.0
    hours: float | None = 0.0
    """Process hours; None where a record lacks what they are made of."""
    pictures: tuple[str, ...] = ()

    def add(self, record: MetricsRecord) -> None:
        """Count one record."""
        if isinstance(record, ArtifactRecord):
            name = record.artifact
            if name.endswith("/curve.png") and not Path(name).is_absolute():
                others = [other for other in self.pictures if other != name]
                self.pictures = (name, *others)[:_MOST_PICTURES]
        elif isinstance(record, StepRecord):
            self.step, self.flops = record.step, record.flops
            more = process_hours([record])
            self.hours = None if self.hours is None or more is None else self.hours + more[0]

    def tags(self) -> dict[str, str]:
        """Return the cost, and the newest picture, as tags of the run."""
        cost = (str(self.step), _flops(self), _hours(self))
        picture = {PICTURE_TAG: self.pictures[0]} if self.pictures else {}
        return dict(zip(COST_TAGS, cost, strict=True)) | picture


def run_note(state: RunState, told: Told, experiment_id: str) -> str:
    """Return the description of a run."""
    tags, params = state.tags, state.params
    data = ", ".join(dict.fromkeys(entry.name for entry in state.inputs)) or params.get("data", "")
    model = " ".join((f"**{tags.get('model', state.run_name)}**", *_size(params)))
    on = [f"on {data}" if data else "", *(tags.get(key, "") for key in ("hardware", "precision"))]
    steps = params.get("steps", "")
    of = f" of {int(steps):,}" if steps.isdigit() else ""
    lines = [
        ", ".join(part for part in (model, *on) if part),
        f"{told.step:,}{of} updates, {_flops(told)} training FLOPs, {_hours(told)} process hours",
        *(_picture(str(state.run_id), name) for name in told.pictures),
        f"[All curves of the experiment]({curves_page(experiment_id)}). The settings are in "
        "`config.yaml` among the artifacts.",
    ]
    return signed("\n\n".join(lines))


def experiment_note(experiment_id: str, runs: Sequence[Any]) -> str:
    """Return the description of an experiment from its ``runs`` on the server, newest first."""
    first = (
        f"Pretraining runs: [curves over training FLOPs]({curves_page(experiment_id)}), "
        f"[all runs]({runs_page(experiment_id)})"
    )
    head = ["| run | model | data | updates | training FLOPs | process hours | results |"]
    head += ["|---|---|---|---|---|---|---|"]
    rows = [_row(experiment_id, run) for run in runs[:_MOST_RUNS]]
    shown = next((run for run in runs if run.data.tags.get(PICTURE_TAG)), None)
    last = [] if shown is None else [_picture(shown.info.run_id, shown.data.tags[PICTURE_TAG])]
    while True:
        table = "\n".join([*head, *rows])
        note = signed("\n\n".join([first, *last, *([table] if rows else [])]))
        if len(note) <= TAG_CHARACTERS or not rows:
            return note
        rows.pop()


def _row(experiment_id: str, run: Any) -> str:
    tags, params = run.data.tags, run.data.params
    results = [name for name in sorted(run.data.metrics) if is_result(name)][:2]
    cells = [
        f"[{_cell(run.info.run_name)}]({run_page(experiment_id, run.info.run_id)})",
        " ".join((tags.get("model", ""), *_size(params))),
        params.get("data", ""),
        *(tags.get(key, "") for key in COST_TAGS),
        ", ".join(f"{name.partition('/')[2]} {run.data.metrics[name]:.4g}" for name in results),
    ]
    return f"| {cells[0]} | {' | '.join(map(_cell, cells[1:]))} |"


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")


def _size(params: dict[str, str]) -> list[str]:
    count = params.get("parameters", "")
    return [f"({int(count) / 1e6:,.1f}M parameters)"] if count.isdigit() else []


def _flops(told: Told) -> str:
    return f"{told.flops:.3g}"


def _hours(told: Told) -> str:
    return "unknown" if told.hours is None else f"{told.hours:.3g}"


def _picture(run_id: str, name: str) -> str:
    return f"![{name}](get-artifact?{urlencode({'path': name, 'run_uuid': run_id})})"


def signed(text: str) -> str:
    """Return a description with the mark that tells it from one that a person wrote."""
    return f"{text}{_MARK}{_digest(text)} -->"


def is_ours(note: str | None) -> bool:
    """Return whether a description may be replaced: none, or one of ours without a change."""
    if not note:
        return note is None
    text, mark, rest = note.rpartition(_MARK)
    return bool(mark) and rest == f"{_digest(text)} -->"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
