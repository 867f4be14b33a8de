"""Arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Recipe = Annotated[
    str,
    typer.Argument(help="Shipped recipe (tiny, small, ...), YAML file, or run directory."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Settings as key=value, e.g. steps=20000 optimizer.learning_rate=5e-4"),
]
Average = Annotated[
    str | None,
    typer.Option(help="last:N: the mean of N checkpoints' weights, up to the chosen one."),
]
RunDir = Annotated[Path, typer.Argument(help="Directory of the run.", metavar="RUN")]
NewRunDir = Annotated[
    Path | None, typer.Option("--run-dir", help="Run directory; default runs/RECIPE.")
]
Source = Annotated[
    Path, typer.Argument(help="Run directory, one of its checkpoints, or a Hugging Face model's.")
]
ModelTokenizer = Annotated[
    Path | None, typer.Option("--tokenizer", help="Of a Hugging Face model without vocab.txt.")
]
