"""Arguments that several commands share."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from convbert.pretrain.cli import completion
from convbert.pretrain.run.tables import Format


def between(low: float, high: float = math.inf, *, above: bool = False) -> Callable[[Any], Any]:
    """Return the callback of an option that takes finite numbers from ``low`` to ``high``.

    With ``above``, ``low`` itself is refused. typer's own ranges let NaN and infinity through.
    """
    least = f"above {low:g}" if above else f"of at least {low:g}"
    most = "" if high == math.inf else f" and at most {high:g}"

    def check(given: Any) -> Any:
        for number in given if isinstance(given, list | tuple) else [given]:
            if number is None:
                continue
            within = (
                low <= number <= high and math.isfinite(number) and not (above and number == low)
            )
            if not within:
                raise typer.BadParameter(f"{number} is not a finite number {least}{most}.")
        return given

    return check


Recipe = Annotated[
    str,
    typer.Argument(
        help="Shipped recipe (tiny, small, ...), YAML file, or run directory.",
        autocompletion=completion.recipes,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="Settings as key=value, e.g. steps=20000 optimizer.learning_rate=5e-4",
        autocompletion=completion.settings,
    ),
]
Average = Annotated[
    str | None,
    typer.Option(help="last:N: the mean of N checkpoints' weights, up to the chosen one."),
]
RunDir = Annotated[
    Path,
    typer.Argument(help="Directory of the run.", metavar="RUN", autocompletion=completion.runs),
]
NewRunDir = Annotated[
    Path | None, typer.Option("--run-dir", help="Run directory; default runs/RECIPE.")
]
Source = Annotated[
    Path,
    typer.Argument(
        help="Run directory, one of its checkpoints, or a Hugging Face model's.",
        autocompletion=completion.runs,
    ),
]
ModelTokenizer = Annotated[
    Path | None, typer.Option("--tokenizer", help="Of a Hugging Face model that has none.")
]
FormatOption = Annotated[
    Format, typer.Option("--format", help="table, or csv or json for other programs.")
]
