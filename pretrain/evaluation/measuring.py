"""What ``convbert evaluate`` and ``convbert probe`` do, as functions."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from convbert.data_pipeline.atomic import atomic_write
from convbert.models.errors import UserError
from convbert.models.pretraining import kept_encoder
from convbert.pretrain.evaluation.linear_probe import Pooling, probe
from convbert.pretrain.evaluation.starts import Checkpoints, Place
from convbert.pretrain.finetune.kinds import prepare
from convbert.pretrain.finetune.results import locked
from convbert.pretrain.finetune.sources import Source
from convbert.pretrain.finetune.task import TaskSpec
from convbert.pretrain.objective.held_out import HeldOut
from convbert.pretrain.objective.losses import build_objective
from convbert.pretrain.run import metric_names
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.settings.evaluation import EvaluationConfig
from convbert.pretrain.tracking.tracker import Tracker

Values = dict[str, float]


def evaluate(
    run_dir: Path, held_out: str | None, sequences: int | None, steps: Sequence[int]
) -> None:
    """Measure the objective of every checkpoint on held-out text, and print and log it."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    checkpoints = Checkpoints(RunDirectory(run_dir), steps)
    config = checkpoints.config
    given = {"held_out": held_out, "sequences": sequences}
    changes = {key: value for key, value in given.items() if value is not None}
    settings = EvaluationConfig.model_validate(config.evaluation.model_dump() | changes)
    if settings.held_out is None:
        raise UserError(f"{run_dir}: has no evaluation.held_out; give --held-out MANIFEST")
    text = HeldOut(settings, config.objective.masking, checkpoints.tokenizer)
    found: list[tuple[Place, Values]] = []
    tracker = checkpoints.tracker()
    with _closing(tracker):
        for place, model in checkpoints.models():
            values = text.measure(build_objective(model, config.objective))
            found.append((place, values))
            _log(tracker, place, values, sequences=text.sequences)
    _print(f"{run_dir}: {text.sequences:,} held-out sequences", found)


def probe_run(
    run_dir: Path, tasks: Sequence[TaskSpec], pooling: Pooling, source: Source, steps: Sequence[int]
) -> None:
    """Fit a linear probe on every checkpoint for each task; print, log, keep ``probe.json``."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    checkpoints = Checkpoints(RunDirectory(run_dir), steps)
    prepared = [prepare(task, checkpoints.tokenizer, source) for task in tasks]
    found: dict[str, list[tuple[Place, Values]]] = {task.name: [] for task in tasks}
    tracker = checkpoints.tracker()
    with _closing(tracker):
        for place, model in checkpoints.models():
            for data in prepared:
                scores = probe(kept_encoder(model), data, pooling)
                name = data.task.name
                values = {
                    metric_names.probe_measure(name, split, metric): value
                    for split, measured in scores.items()
                    for metric, value in measured.items()
                }
                found[name].append((place, values))
                _log(tracker, place, values)
        for name, points in found.items():
            tracker.artifact(_write(checkpoints.run.report / name, pooling, points))
    for name, points in found.items():
        _print(f"{name}: linear probe on {pooling} states", points)


def _write(folder: Path, pooling: Pooling, points: list[tuple[Place, Values]]) -> Path:
    """Write ``probe.json``, in which other checkpoints with the same pooling stay."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "probe.json"
    entries = {
        place.step: {"start": place.label, "step": place.step, "flops": place.flops, "values": v}
        for place, v in points
    }
    with locked(folder):
        before = json.loads(path.read_bytes()) if path.exists() else {}
        if before.get("pooling") == pooling:
            entries = {entry["step"]: entry for entry in before["points"]} | entries
        content = {"pooling": pooling, "points": [entries[step] for step in sorted(entries)]}
        with atomic_write(path) as file:
            file.write(json.dumps(content, indent=1).encode() + b"\n")
    return path


@contextmanager
def _closing(tracker: Tracker) -> Iterator[None]:
    try:
        yield
    except BaseException:
        tracker.close("FAILED")
        raise
    tracker.close("FINISHED")


def _log(tracker: Tracker, place: Place, values: Values, **extra: Any) -> None:
    for name, value in values.items():
        tracker.curve_point(place.flops, name, value, step=place.step, **extra)


def _print(title: str, points: list[tuple[Place, Values]]) -> None:
    table = Table(title=title)
    table.add_column("checkpoint")
    table.add_column("training FLOPs", justify="right")
    names = list(points[0][1])
    for name in names:
        table.add_column(name.split("/", 1)[1], justify="right")
    for place, values in points:
        cells = (f"{values[name]:.4f}" for name in names)
        table.add_row(place.label, f"{place.flops:.2e}", *cells)
    Console().print(table)
