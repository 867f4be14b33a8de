"""Fine-tune a run's checkpoints on tasks and draw accuracy against training FLOPs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.interop.hf import load_pretrained
from convbert.pretrain.evaluation.seeds import log_seeds
from convbert.pretrain.evaluation.starts import Checkpoints, Place
from convbert.pretrain.finetune.data import TaskData
from convbert.pretrain.finetune.kinds import prepare
from convbert.pretrain.finetune.loop import FinetuneResult
from convbert.pretrain.finetune.results import (
    RESULTS,
    StartResults,
    TaskResults,
    joined,
    locked,
    write_results,
)
from convbert.pretrain.finetune.runs import Start, finetune_all
from convbert.pretrain.finetune.sources import Source
from convbert.pretrain.finetune.task import TaskSpec
from convbert.pretrain.report.curve import publish
from convbert.pretrain.report.page import write_report
from convbert.pretrain.run.curve import Curve, Point
from convbert.pretrain.run.metric_names import task_measure
from convbert.pretrain.tracking.tracker import Tracker

OnResult = Callable[[str, FinetuneResult], None]


@dataclass(frozen=True)
class Effort:
    """How a fine-tuning is repeated, and what is kept of it.

    ``predict`` writes the predictions for every split but train, labelled or not.
    """

    seeds: int = 3
    source: Source = "auto"
    predict: bool = False
    workers: int | None = None


def evaluate_checkpoints(
    checkpoints: Checkpoints,
    tasks: Sequence[TaskSpec],
    effort: Effort,
    on_result: OnResult = lambda label, result: None,
) -> list[TaskResults]:
    """Fine-tune every checkpoint, and the same model from random weights, on every task.

    Each task gets a folder ``report/TASK`` in the run directory with ``results.json``,
    ``curve.json``, ``curve.png`` and the interactive page ``curve.html``; points, pictures and data
    are published in the run's MLflow run, each seed's in a nested one. Raises ``UserError`` for
    unusable task files before any training.
    """
    named = [task.model_copy(update={"name": checkpoints.measured(task.name)}) for task in tasks]
    prepared = [prepare(task, checkpoints.tokenizer, effort.source) for task in named]
    starts, places = checkpoints.starts(), checkpoints.places
    found = []
    for data in prepared:
        folder = checkpoints.run.report / data.task.name
        results = _finetune(starts, places, data, effort, folder, checkpoints.run.name, on_result)
        _publish(checkpoints, results, data, folder)
        found.append(results)
    return found


def evaluate_directory(
    directory: Path,
    tokenizer: Path | None,
    tasks: Sequence[TaskSpec],
    effort: Effort,
    output: Path,
    on_result: OnResult = lambda label, result: None,
) -> list[TaskResults]:
    """Fine-tune the encoder in a Hugging Face directory; write ``OUTPUT/TASK/results.json``.

    ``tokenizer`` is needed where the directory has no ``vocab.txt``.
    """
    encoder = load_pretrained(directory)
    words = Tokenizer.load(tokenizer or directory)
    prepared = [prepare(task, words, effort.source) for task in tasks]
    name = directory.resolve().name
    starts: dict[str, Start] = {name: encoder}
    return [
        _finetune(
            starts, [Place(name, 0, 0.0)], data, effort, output / data.task.name, name, on_result
        )
        for data in prepared
    ]


def _finetune(
    starts: Mapping[str, Start],
    places: Sequence[Place],
    data: TaskData,
    effort: Effort,
    folder: Path,
    run: str,
    on_result: OnResult,
) -> TaskResults:
    found = finetune_all(
        starts,
        data,
        seeds=range(effort.seeds),
        workers=effort.workers,
        keep=effort.predict,
        on_result=on_result,
    )
    results = TaskResults(
        run=run,
        task=data.task.name,
        metric=data.task.metric,
        recipe=data.task.recipe,
        rows={split: len(examples) for split, examples in data.examples.items()},
        starts=[StartResults.of(p.label, p.step, p.flops, found[p.label]) for p in places],
    )
    return write_results(results, data, folder)


def _publish(checkpoints: Checkpoints, results: TaskResults, data: TaskData, folder: Path) -> None:
    tracker = checkpoints.tracker()
    try:
        with locked(folder):
            results = joined(results, folder)  # other processes may have measured meanwhile
            publish(_curve(results), folder, tracker)
            page = write_report([checkpoints.run.path], folder / "curve.html")
        for start in results.starts:
            _log_others(tracker, results, start)
        log_seeds(tracker, results, data)
        tracker.artifact(folder / RESULTS)
        tracker.artifact(page)
    except BaseException:
        tracker.close("FAILED")
        raise
    tracker.close("FINISHED")


def _curve(results: TaskResults) -> Curve:
    baseline, *trained = results.starts
    return Curve(
        run=results.run,
        task=results.task,
        metric=results.metric,
        baseline=baseline.main(results.metric),
        points=[Point(step=s.step, flops=s.flops, spread=s.main(results.metric)) for s in trained],
    )


def _log_others(tracker: Tracker, results: TaskResults, start: StartResults) -> None:
    """Log every measure but the deciding one, which the curve holds, as a curve of its own."""
    for split, spreads in start.spreads.items():
        for metric, spread in spreads.items():
            if (split, metric) != ("dev", results.metric):
                rest = spread.model_dump()
                value = rest.pop("median")
                name = task_measure(results.task, split, metric)
                tracker.curve_point(start.flops, name, value, step=start.step, **rest)
