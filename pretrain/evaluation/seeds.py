"""The seeds of fine-tunings as nested MLflow runs: what each was given, and its own curve."""

import hashlib
import json

from convbert.pretrain.finetune.data import TaskData
from convbert.pretrain.finetune.results import TaskResults
from convbert.pretrain.run.metric_names import task_measure
from convbert.pretrain.tracking.records import NestedRun, now
from convbert.pretrain.tracking.tracked_run import DataInput, flatten
from convbert.pretrain.tracking.tracker import Tracker


def log_seeds(tracker: Tracker, results: TaskResults, data: TaskData) -> None:
    """Describe a nested run for each seed, and log its measures of every starting point.

    The same task with other settings gets other nested runs.
    """
    settings = results.model_dump(mode="json", include={"task", "recipe", "rows"})
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    inputs = data_inputs(data)
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
                inputs=[entry.model_dump() for entry in inputs],
            )
        )
        for start, result in found:
            for split, scores in result.scores.items():
                for metric, value in scores.items():
                    name = task_measure(results.task, split, metric)
                    tracker.curve_point(start.flops, name, value, within=key, step=start.step)


def data_inputs(data: TaskData) -> list[DataInput]:
    """Describe the splits of a task as MLflow lists them, each named by what its rows say."""
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
