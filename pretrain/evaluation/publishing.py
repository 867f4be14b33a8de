"""What fine-tuning measured, as files of the run and in MLflow: a curve, and a run of each seed."""

import hashlib
import json
from pathlib import Path
from typing import Any

from convbert.data_pipeline.atomic import atomic_write
from convbert.pretrain.evaluation.evaluated_run import EvaluatedRun
from convbert.pretrain.evaluation.results import RESULTS, TaskResults, joined, locked
from convbert.pretrain.finetune.data import TaskData
from convbert.pretrain.report.curve import draw_curve
from convbert.pretrain.report.page import write_report
from convbert.pretrain.run.curve import Curve, Level, Point, Spread
from convbert.pretrain.run.metric_names import task_measure
from convbert.pretrain.tracking.records import NestedRun, now
from convbert.pretrain.tracking.tracked_run import DataInput, flatten
from convbert.pretrain.tracking.tracker import Tracker


def publish_results(
    evaluated: EvaluatedRun, results: TaskResults, data: TaskData, folder: Path
) -> None:
    """Write the curve and its page into ``folder``, and log every measure of every seed."""
    with evaluated.tracker() as tracker:
        with locked(folder):
            results = joined(results, folder)  # other processes may have measured meanwhile
            publish_curve(_curve(results), folder, tracker)
            page = write_report([evaluated.run.path], folder / "curve.html")
        for start in results.starts:
            for split, spreads in start.spreads.items():
                for metric, spread in spreads.items():
                    if (split, metric) != ("dev", results.metric):  # the curve holds that one
                        name = task_measure(results.task, split, metric)
                        level = results.lexical.level(split, metric) if results.lexical else None
                        _log_spread(tracker, name, start.step, start.flops, spread, level)
        log_seeds(tracker, results, data)
        tracker.artifact(folder / RESULTS)
        tracker.artifact(page)


def _curve(results: TaskResults) -> Curve:
    baseline, *trained = results.starts
    return Curve(
        run=results.run,
        task=results.task,
        metric=results.metric,
        baseline=baseline.main(results.metric),
        points=[Point(step=s.step, flops=s.flops, spread=s.main(results.metric)) for s in trained],
        lexical=results.lexical.level("dev", results.metric) if results.lexical else None,
    )


def publish_curve(curve: Curve, folder: Path, tracker: Tracker) -> Path:
    """Write ``curve.json`` and ``curve.png`` into ``folder`` and hand all to the tracker.

    The points become the metric ``TASK/METRIC`` with MLflow steps in GFLOPs, the baseline its
    value at 0. Returns the picture's path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = task_measure(curve.task, "dev", curve.metric)
    for point in [Point(step=0, flops=0.0, spread=curve.baseline), *curve.points]:
        _log_spread(tracker, name, point.step, point.flops, point.spread, curve.lexical)
    data, picture = folder / "curve.json", folder / "curve.png"
    with atomic_write(data) as file:
        file.write(curve.model_dump_json(indent=2).encode() + b"\n")
    draw_curve(curve, picture)
    for path in (data, picture):
        tracker.artifact(path)
    return picture


def _log_spread(
    tracker: Tracker, name: str, step: int, flops: float, spread: Spread, level: Level | None
) -> None:
    rest = spread.model_dump() | level_values(level)
    tracker.curve_point(flops, name, rest.pop("median"), step=step, **rest)


def level_values(level: Level | None) -> dict[str, Any]:
    """Return what a point's record says of the baseline that sees only words."""
    return {} if level is None else {"lexical": level.spread.median, "lexical_name": level.name}


def log_seeds(tracker: Tracker, results: TaskResults, data: TaskData) -> None:
    """Describe a nested run for each seed, and log its measures of every starting point.

    The same task with other settings gets other nested runs.
    """
    settings = results.model_dump(mode="json", include={"task", "recipe", "rows"})
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    for seed in sorted({result.seed for start in results.starts for result in start.results}):
        key = f"{results.task}-{digest}-seed-{seed}"
        found = [(s, r) for s in results.starts for r in s.results if r.seed == seed]
        tracker.nested(
            NestedRun(
                nested=key,
                name=f"{results.task}, seed {seed}",
                time=now(),
                seconds=round(sum(result.seconds for _, result in found), 1),
                params=flatten({"task": results.task, "seed": seed, **settings}),
                tags={"task": results.task, "kind": data.task.kind, "seed": str(seed)},
                inputs=[entry.model_dump() for entry in data_inputs(data.for_seed(seed))],
            )
        )
        for start, result in found:
            for split, scores in result.scores.items():
                for metric, value in scores.items():
                    name = task_measure(results.task, split, metric)
                    tracker.curve_point(start.flops, name, value, within=key, step=start.step)


def data_inputs(data: TaskData) -> list[DataInput]:
    """Describe the splits of a task as MLflow lists them, each with a digest of its rows."""
    task = data.task
    return [
        DataInput(
            name=f"{task.name} {split}",
            digest=_digest(data, split),
            source=str(task.files.get(split, task.train)),
            context="training" if split == "train" else "evaluation",
            profile={"rows": len(examples), "kind": task.kind},
        )
        for split, examples in data.examples.items()
    ]


def _digest(data: TaskData, split: str) -> str:
    """Return the SHA-256 of a split's texts and labels in order."""
    state = hashlib.sha256()
    for example in data.examples[split]:
        state.update(json.dumps([example.texts, example.label]).encode())
    return state.hexdigest()
