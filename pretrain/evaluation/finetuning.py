"""Fine-tune a run's checkpoints, or a Hugging Face model, on tasks: ``convbert finetune``."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import UserError
from convbert.models.interop.hf import load_pretrained
from convbert.pretrain.evaluation.evaluated_run import EvaluatedRun, StartingPoint
from convbert.pretrain.evaluation.finished import FinishedSeeds
from convbert.pretrain.evaluation.kept_models import KeptModels, require_all_keepable
from convbert.pretrain.evaluation.lexical import measure_lexical
from convbert.pretrain.evaluation.publishing import publish_results
from convbert.pretrain.evaluation.results import StartResults, TaskResults, write_results
from convbert.pretrain.finetune.data import TaskData
from convbert.pretrain.finetune.kinds import prepare_all
from convbert.pretrain.finetune.loop import FinetuneResult
from convbert.pretrain.finetune.remarks import remarks
from convbert.pretrain.finetune.sources import DataSource
from convbert.pretrain.finetune.task import TaskSpec
from convbert.pretrain.finetune.workers import InitialEncoder, check_starts, finetune_all

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FinetuneOptions:
    """How fine-tuning is repeated, and what is kept of it.

    ``predict`` writes the predictions for every split but train, labeled or not, ``keep_model`` the
    best seed's model of each trained starting point. ``on_result`` is called with the starting
    point's name and the result of each seed as it ends.
    """

    seeds: int = 3
    source: DataSource = "auto"
    predict: bool = False
    workers: int | None = None
    on_result: Callable[[str, FinetuneResult], None] = lambda label, result: None
    keep_model: bool = False


def finetune_run(
    evaluated: EvaluatedRun, tasks: Sequence[TaskSpec], options: FinetuneOptions
) -> list[TaskResults]:
    """Fine-tune every checkpoint, and the same model from random weights, on every task.

    Each task, or number of rows in a list of ``train_rows``, gets a folder ``report/TASK`` in the
    run directory with ``results.json``, ``lexical.json`` (the baseline that sees only words),
    ``curve.json``, ``curve.png`` and the interactive page ``curve.html``; points, pictures and data
    are published in the run's MLflow run, each seed's in a nested one. Raises ``UserError`` for
    unusable task files before any training.
    """
    named = [task.model_copy(update={"name": evaluated.task_name(task.name)}) for task in tasks]
    prepared = prepare_all(named, evaluated.tokenizer, options.source)
    encoders, run = evaluated.encoders(), evaluated.run
    _require_all(encoders, prepared, options)
    found = []
    for data in prepared:
        folder = run.report / data.task.name
        words = evaluated.tokenizer
        results = _finetune(encoders, evaluated.points, data, options, run.name, folder, words)
        found.append(write_results(results, folder))
        publish_results(evaluated, found[-1], data, folder)
    return found


def finetune_directory(
    directory: Path,
    tokenizer: Path | None,
    tasks: Sequence[TaskSpec],
    options: FinetuneOptions,
    output: Path,
) -> list[TaskResults]:
    """Fine-tune the encoder in a Hugging Face directory; write ``OUTPUT/TASK/results.json``.

    ``tokenizer`` is needed where the directory has none.
    """
    encoder = load_pretrained(directory)
    words, known = Tokenizer.load(tokenizer or directory), encoder.config.vocab_size
    if tokenizer is not None and words.vocab_size != known:  # its own may have fewer
        raise UserError(
            f"{words.file}: {words.vocab_size:,} ids, the model in {directory} knows {known:,}; "
            "give the tokenizer that it was trained with"
        )
    prepared = prepare_all(tasks, words, options.source)
    name = directory.resolve().name
    point = StartingPoint(name, 0, 0.0)
    _require_all({name: encoder}, prepared, options)
    found = []
    for data in prepared:
        folder = output / data.task.name
        results = _finetune({name: encoder}, [point], data, options, name, folder, words)
        found.append(write_results(results, folder))
    return found


def _require_all(
    encoders: Mapping[str, InitialEncoder], prepared: Sequence[TaskData], options: FinetuneOptions
) -> None:
    """Raise ``UserError`` for a task that cannot be done, before the hours of those before it."""
    for data in prepared:
        check_starts(encoders, data)
    if options.keep_model:
        require_all_keepable(encoders, prepared)


def _finetune(
    encoders: Mapping[str, InitialEncoder],
    points: Sequence[StartingPoint],
    data: TaskData,
    options: FinetuneOptions,
    run: str,
    folder: Path,
    tokenizer: Tokenizer,
) -> TaskResults:
    """Fine-tune what ``folder`` does not hold yet; each seed is written there as it ends."""
    said = remarks(data)
    for remark in said:
        log.warning(remark)
    lexical = measure_lexical(data, range(options.seeds), folder)
    finished = FinishedSeeds(folder, data, encoders, keep=options.predict)
    known = finished.known(range(options.seeds))
    models = None
    if options.keep_model:
        models = KeptModels(folder, data, encoders, finished, tokenizer)
        known = {label: models.known(label, results) for label, results in known.items()}
    count = sum(map(len, known.values()))
    if count:
        total = len(encoders) * options.seeds
        log.warning(f"{finished.folder}: {count} of {total} seeds were measured before, and count")
        for label, results in known.items():
            for result in results:
                options.on_result(label, result)

    def ended(label: str, result: FinetuneResult) -> None:
        if models is not None:
            models.add(label, result)
        finished.add(label, result)
        options.on_result(label, result)

    found = finetune_all(
        encoders,
        data,
        seeds=range(options.seeds),
        workers=options.workers,
        keep=options.predict,
        on_result=ended,
        known=known,
        models=models.place if models else lambda label, seed: None,
    )
    for label, results in found.items():
        finished.publish_predictions(label, results)
    return TaskResults(
        run=run,
        task=data.task.name,
        metric=data.task.metric,
        data=finished.rows,
        recipe=data.task.recipe,
        rows={split: len(examples) for split, examples in data.for_seed(0).examples.items()},
        remarks=said,
        starts=[StartResults.of(p.label, p.step, p.flops, found[p.label]) for p in points],
        lexical=lexical,
    )
