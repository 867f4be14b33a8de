"""What the commands of evaluation do, as functions: progress bars, tables, files."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from convbert.pretrain.evaluation.finetuning import (
    Effort,
    OnResult,
    evaluate_checkpoints,
    evaluate_directory,
)
from convbert.pretrain.evaluation.starts import Checkpoints
from convbert.pretrain.exchange.averaging import parse_average
from convbert.pretrain.finetune.loop import FinetuneResult
from convbert.pretrain.finetune.packages import PACKAGES, fetch_task
from convbert.pretrain.finetune.results import RESULTS, TaskResults
from convbert.pretrain.finetune.synthetic import write_synthetic
from convbert.pretrain.finetune.task import TaskSpec, load_task, packaged_tasks
from convbert.pretrain.run.directory import RunDirectory


def finetune(
    source: Path,
    tasks: list[TaskSpec],
    effort: Effort,
    *,
    steps: Sequence[int] = (),
    tokenizer: Path | None = None,
    output: Path | None = None,
    average: str | None = None,
) -> None:
    """Fine-tune a run's checkpoints, or a Hugging Face directory, and print the results."""
    if (source / "config.json").is_file():
        folder = output or source / "finetune"
        with _progress(len(tasks) * effort.seeds) as show:
            found = evaluate_directory(source, tokenizer, tasks, effort, folder, show)
    else:
        run = RunDirectory(source)
        checkpoints = Checkpoints(run, steps, parse_average(average))
        folder = run.report
        with _progress(len(tasks) * len(checkpoints.places) * effort.seeds) as show:
            found = evaluate_checkpoints(checkpoints, tasks, effort, show)
    for results in found:
        print_results(results)
        print(f"{results.task}: {folder / results.task / RESULTS}")


@contextmanager
def _progress(total: int) -> Iterator[OnResult]:
    console = Console(stderr=True)
    columns = (TextColumn("fine-tuning"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("fine-tuning", total=total)

        def show(label: str, result: FinetuneResult) -> None:
            progress.advance(bar)
            diverged = "" if math.isfinite(result.train_loss) else "; diverged, lower the rate"
            console.print(
                f"{result.task}, {label}, seed {result.seed}: {result.metric} "
                f"{result.score:.4f} ({result.seconds:.0f} s){diverged}",
                highlight=False,
            )

        yield show


def print_results(results: TaskResults) -> None:
    """Print a line for each start: the deciding measure's spread, the others' medians."""
    seeds = len(results.starts[0].results)
    table = Table(title=f"{results.task}: {results.metric}, {seeds} seeds")
    others = [
        (split, metric)
        for split, spreads in results.starts[0].spreads.items()
        for metric in spreads
        if (split, metric) != ("dev", results.metric)
    ]
    names = [metric if split == "dev" else f"{split} {metric}" for split, metric in others]
    for column in ("start", "training FLOPs", "median", "lowest", "highest", *names):
        table.add_column(column, justify="left" if column == "start" else "right")
    for start in results.starts:
        spread = start.main(results.metric)
        values = [spread.median, spread.low, spread.high]
        values += [start.spreads[split][metric].median for split, metric in others]
        table.add_row(start.start, f"{start.flops:.2e}", *(f"{x:.4f}" for x in values))
    Console().print(table)


def fetch(names: Sequence[str], folder: Path) -> None:
    """Fetch the data of tasks that come in packages."""
    for name in names or list(PACKAGES):
        for path in fetch_task(name, folder):
            print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def synthesise(folder: Path, seed: int) -> None:
    """Write the synthetic files."""
    for path in write_synthetic(folder, seed=seed):
        print(f"{path}: synthetic")


def show_tasks() -> None:
    """List the packaged tasks: kind, deciding measure, training file, origin of the data."""
    table = Table()
    for column in ("task", "kind", "measure", "training file", "data"):
        table.add_column(column, overflow="fold")
    for name in packaged_tasks():
        task = load_task(name)
        origin = "tasks fetch" if name in PACKAGES else "your copy"
        if name.startswith("synthetic/"):
            origin = "tasks synthesise"
        table.add_row(name, task.kind, task.metric, str(task.train), origin)
    Console().print(table)
