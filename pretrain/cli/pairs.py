"""The command ``pairs``: zero-shot measures."""

import shlex
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convbert.pretrain.cli.arguments import FormatOption, ModelTokenizer, Source
from convbert.pretrain.cli.data_arguments import reads_text
from convbert.pretrain.run.tables import Output

if TYPE_CHECKING:
    from convbert.data_pipeline.readers import ReaderOptions
    from convbert.pretrain.evaluation.pairs import Found

app = typer.Typer()
# Typer takes lists of enumerations, not of literals.
CorruptionName = StrEnum("CorruptionName", ["swap", "delete", "replace", "shuffle"])
ScoreName = StrEnum("ScoreName", ["discriminator", "pll"])


@app.command()
@reads_text
def pairs(
    source: Source,
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
        list[int] | None, typer.Option("--step", help="Checkpoints; default all of the run.", min=1)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the sentences and their faults.", min=0)] = 0,
    tokenizer: ModelTokenizer = None,
    form: FormatOption = "table",
    *,
    reader: "ReaderOptions",
) -> None:
    """Count how often a model prefers a real sentence to a spoilt one; needs no labels."""
    from convbert.pretrain.cli.progress import counter
    from convbert.pretrain.evaluation import pairs as evaluation
    from convbert.pretrain.evaluation.evaluated_run import EvaluatedRun
    from convbert.pretrain.exchange.run_models import find_run, require_fitting
    from convbert.pretrain.pairs.gathering import gather
    from convbert.pretrain.pairs.scores import choose
    from convbert.pretrain.settings.evaluation import PairsConfig

    kinds: Any = _distinct(corruption or [CorruptionName.swap])
    scores: Any = _distinct(score or [])
    found_run = find_run(source)
    require_fitting(source, found_run, step=step, tokenizer=tokenizer)
    models = (
        EvaluatedRun(found_run[0], step or found_run[1])
        if found_run
        else evaluation.open_directory(source, tokenizer)
    )
    # Before the text is read, which may be long.
    chosen = choose(models.networks, scores, "--score")
    wanted = PairsConfig(
        inputs=tuple(inputs), corruptions=kinds, count=count, seed=seed, reader=reader
    )
    with counter("reading sentences"):
        made, notes = gather(wanted)
    out = Output(form)
    for note in notes:
        out.note(note)
    run = models if isinstance(models, EvaluatedRun) else None
    total = len(run.points) if run else 1
    with counter(f"scoring {len(made):,} pairs", total, "models") as progress:
        scoring = evaluation.Scoring(chosen, per_token, progress.advance)
        if isinstance(models, EvaluatedRun):
            found = evaluation.evaluate_run(models, made, scoring)
        else:
            found = evaluation.evaluate_directory(models, made, scoring)
    headings = ("start", "training FLOPs", "pairs", "share", "± error", "number")
    title = f"{source}: the good sentence preferred{', per token' if per_token else ''}"
    out.table(headings, _rows(found), title=title)
    if run:
        out.note(f"{run.run.report / 'pairs' / evaluation.FILE_NAME}: the same as numbers")
        out.note(f"next: convbert report {shlex.quote(str(run.run.path))}")


def _distinct(names: Sequence[StrEnum]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.value for name in names))


def _rows(found: "Found") -> list[tuple[str, ...]]:
    return [
        (
            point.label,
            f"{point.flops:.2e}",
            f"{p.kind}, {p.score}",
            f"{p.accuracy:.4f}",
            f"{p.standard_error:.4f}",
            f"{p.pairs:,}",
        )
        for point, preferences in found
        for p in preferences
    ]
