"""The command ``show``: texts through the eyes of a model."""

from pathlib import Path
from typing import Annotated

import typer

from convbert.pretrain.cli.arguments import ModelTokenizer, Source, between

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

    from convbert.pretrain.finetune.device import compute_device
    from convbert.pretrain.show.look import Options
    from convbert.pretrain.show.page import write_page
    from convbert.pretrain.show.sources import Request, answer
    from convbert.pretrain.show.terminal import print_look

    request = Request(source, texts or [], step, tokenizer, every=html is not None)
    series, chosen = answer(request, Options(top, share, seed), compute_device())
    if html is not None:
        write_page(series, html)
    if as_json:
        print(series.model_dump_json(indent=1))
    else:
        print_look(series, series.points[chosen], Console(highlight=False))
        if html is not None:
            print(f"\n{html}: {len(series.points)} checkpoints")
