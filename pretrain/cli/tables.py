"""Tables on the terminal."""

import math
from collections.abc import Iterable, Sequence
from typing import Literal

from rich.console import Console
from rich.table import Table


def print_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", text: bool = False
) -> None:
    """Print rows of cells below their headings; all columns but the first are numbers, or text."""
    table = Table(title=title or None)
    for number, heading in enumerate(headings):
        left = text or not number
        name = text and not number  # to be copied: in one piece
        justify: Literal["left", "right"] = "left" if left else "right"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=name)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def measured(value: float) -> str:
    """Return a measure with four decimals, or "undefined" where the rows define none."""
    return "undefined" if math.isnan(value) else f"{value:.4f}"


def print_figures(figures: list[tuple[str, str]]) -> None:
    """Print names and values in two columns."""
    width = max(len(name) for name, _ in figures)
    for name, value in figures:
        print(f"{name:<{width}}  {value}")
