"""The command ``pairs``: zero-shot measures."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from convbert.pretrain.cli.data import Field, Unit

app = typer.Typer()
# Typer takes lists of enumerations, not of literals.
CorruptionName = StrEnum("CorruptionName", ["swap", "delete", "replace", "shuffle"])
ScoreName = StrEnum("ScoreName", ["discriminator", "pll"])


@app.command()
def pairs(
    source: Annotated[Path, typer.Argument(help="Run directory, or a Hugging Face model's.")],
    inputs: Annotated[
        list[str],
        typer.Argument(help="Held-out text, or one file of good and bad sentences (JSONL, CSV)."),
    ],
    corruption: Annotated[
        list[CorruptionName] | None,
        typer.Option(
            help="How a sentence of a text is spoilt; default swap, two neighbouring words.",
        ),
    ] = None,
    count: Annotated[int, typer.Option(help="Pairs of each corruption.", min=1)] = 10_000,
    score: Annotated[
        list[ScoreName] | None,
        typer.Option(
            help="Default: the discriminator's, or PLL where there is none.",
        ),
    ] = None,
    per_token: Annotated[
        bool, typer.Option("--per-token", help="Divide scores by the sentence's tokens.")
    ] = False,
    step: Annotated[
        list[int] | None, typer.Option("--step", help="Checkpoints; default all of the run.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the sentences and their faults.", min=0)] = 0,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Of a Hugging Face model without vocab.txt.")
    ] = None,
    unit: Unit = "file",
    field: Field = "text",
) -> None:
    """Count how often a model prefers a real sentence to a spoilt one; needs no labels."""
    from rich.console import Console
    from rich.table import Table

    from convbert.data_pipeline.readers import ReaderOptions
    from convbert.pretrain.evaluation import pairs as evaluation
    from convbert.pretrain.evaluation.starts import Checkpoints
    from convbert.pretrain.run.directory import RunDirectory

    options = ReaderOptions(unit=unit, field=field)
    kinds: Any = [kind.value for kind in corruption or [CorruptionName.swap]]
    scores: Any = tuple(name.value for name in score or [])
    scoring = evaluation.Scoring(scores, per_token)
    is_run = not (source / "config.json").is_file()
    checkpoints = Checkpoints(RunDirectory(source), step or []) if is_run else None
    made, notes = evaluation.gather(inputs, kinds, count, options, seed=seed)
    for note in notes:
        print(note)
    if checkpoints is not None:
        found = evaluation.evaluate_run(checkpoints, made, scoring)
    else:
        found = evaluation.evaluate_directory(source, tokenizer, made, scoring)
    table = Table(title=f"{source}: good sentence preferred")
    for column in ("checkpoint", "training FLOPs", "pairs", "score", "share", "± error", "number"):
        table.add_column(column, justify="left" if column in ("checkpoint", "pairs") else "right")
    for place, preferences in found:
        for p in preferences:
            share, error = f"{p.accuracy:.4f}", f"{p.standard_error:.4f}"
            row = (place.label, f"{place.flops:.2e}", p.kind, p.score, share, error, f"{p.pairs:,}")
            table.add_row(*row)
    Console().print(table)
    if checkpoints is not None:
        print(f"{checkpoints.run.report / 'pairs' / evaluation.FILE_NAME}: the same as numbers")
