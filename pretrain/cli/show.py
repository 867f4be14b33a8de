"""The commands ``show`` and ``heads``: texts through the eyes of a model and of its heads."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from convbert.pretrain.cli.arguments import FormatOption, ModelTokenizer, Source, between
from convbert.pretrain.run.tables import Output, measured

app = typer.Typer()


@app.command()
def show(
    source: Source,
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            help=r"Texts, each with or without \[MASK]; default sentences of the run's data.",
            metavar="TEXT...",
        ),
    ] = None,
    step: Annotated[
        int | None, typer.Option(help="Checkpoint on the terminal; default the newest.", min=1)
    ] = None,
    top: Annotated[int, typer.Option(help="Fillings of each mask.", min=1)] = 5,
    share: Annotated[
        float,
        typer.Option(help="Of the tokens that the generator replaces.", callback=between(0, 1)),
    ] = 0.15,
    seed: Annotated[int, typer.Option(help="Of what is replaced.", min=0)] = 0,
    html: Annotated[
        Path | None, typer.Option(help="Page to write, with all checkpoints of the run.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    tokenizer: ModelTokenizer = None,
) -> None:
    """Fill masks with the generator, and let the discriminator find what the generator replaced."""
    from rich.console import Console

    from convbert.data_pipeline.atomic import file_place
    from convbert.pretrain.cli.progress import counter
    from convbert.pretrain.finetune.device import compute_device
    from convbert.pretrain.show.look import Options
    from convbert.pretrain.show.page import write_page
    from convbert.pretrain.show.sources import Request, answer
    from convbert.pretrain.show.terminal import print_look

    request = Request(source, texts or [], step, tokenizer, every=html is not None)
    about = "looking at every checkpoint" if html is not None else "looking"
    with file_place(html) if html is not None else nullcontext():
        with counter(about):
            series, chosen = answer(request, Options(top, share, seed), compute_device())
        if html is not None:
            write_page(series, html)
    if as_json:
        print(series.model_dump_json(indent=1))
    else:
        print_look(series, series.points[chosen], Console(highlight=False))
        if html is not None:
            print(f"\n{html}: {len(series.points)} checkpoints; open it in a browser")


@app.command()
def heads(
    source: Source,
    texts: Annotated[
        list[str] | None,
        typer.Argument(help="Texts; default sentences of the run's data.", metavar="TEXT..."),
    ] = None,
    step: Annotated[int | None, typer.Option(help="Checkpoint; default the newest.", min=1)] = None,
    html: Annotated[
        Path | None, typer.Option(help="Page to write, with the weights of every head.")
    ] = None,
    tokens: Annotated[
        int, typer.Option(help="Read of a text at most, with \\[CLS] and \\[SEP].", min=3, max=512)
    ] = 64,
    tokenizer: ModelTokenizer = None,
    form: FormatOption = "table",
) -> None:
    """Show the attention and the span kernels of every head on a text, layer by layer."""
    from convbert.data_pipeline.atomic import file_place
    from convbert.pretrain.cli.progress import counter
    from convbert.pretrain.finetune.device import compute_device
    from convbert.pretrain.show.heads import mean_measures, read_heads
    from convbert.pretrain.show.heads_page import HEADINGS, write_heads
    from convbert.pretrain.show.sources import Request

    request = Request(source, texts or [], step, tokenizer, every=False)
    with file_place(html) if html is not None else nullcontext(), counter("looking"):
        series = read_heads(request, tokens, compute_device())
        if html is not None:
            write_heads(series, html)
    headings = HEADINGS if series.has_kernels else HEADINGS[:2]
    rows = [
        [str(layer), str(number), *map(measured, measures[: len(headings)])]
        for layer, found in enumerate(mean_measures(series), 1)
        for number, measures in enumerate(found, 1)
    ]
    out = Output(form)
    out.table(
        ("layer", "head", *headings),
        rows,
        title=series.source,
        caption=f"near: share of the attention within {series.reach} tokens; docs/show.md",
    )
    if html is None:
        out.note("--html FILE writes a page with every weight, layer by layer")
    else:
        out.note(f"{html}: every weight, layer by layer; open it in a browser")
