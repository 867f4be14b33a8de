"""Tables on the terminal, and the same as CSV or JSON for other programs."""

import csv
import json
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

Format = Literal["table", "csv", "json"]
FormatOption = Annotated[
    Format, typer.Option("--format", help="table, or csv or json for other programs.")
]
_PADDING = 3  # of a column: its border and a blank on each side


class Output:
    """Prints tables in one format; notes go beside them, to stderr where a program reads."""

    def __init__(self, form: Format = "table") -> None:
        self._form = form

    def note(self, text: str) -> None:
        """Print a line that is no table."""
        print(text, file=sys.stdout if self._form == "table" else sys.stderr)

    def table(
        self,
        headings: Sequence[str],
        rows: Iterable[Sequence[str]],
        *,
        title: str = "",
        caption: str = "",
        text: bool = False,
    ) -> None:
        """Print rows of cells below their headings; all but the first are numbers, or ``text``.

        JSON is an object a line for each table: its title, and a list of rows by heading. A blank
        line separates CSV tables.
        """
        cells = [list(row) for row in rows]
        if self._form == "json":
            found = [dict(zip(headings, map(_value, row), strict=True)) for row in cells]
            about = {"title": title} | ({"caption": caption} if caption else {})
            print(json.dumps(about | {"rows": found}, ensure_ascii=False))
        elif self._form == "csv":
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(headings)
            writer.writerows([_value(cell) for cell in row] for row in cells)
            print()
        else:
            _print(headings, cells, title, caption, text)


def _value(cell: str) -> str | int | float | None:
    """Return the number that a cell shows, or its text; None where it is undefined."""
    if cell in ("", "undefined"):
        return None
    plain = cell.replace(",", "")
    if plain.lstrip("-").isdigit():
        return int(plain)
    try:
        number = float(plain)
    except ValueError:
        return cell
    return number if math.isfinite(number) else cell


def _print(
    headings: Sequence[str], rows: list[list[str]], title: str, caption: str, text: bool
) -> None:
    console = Console(highlight=False)
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    needed = sum(widths) + _PADDING * len(widths) + 1
    if not console.is_terminal:  # a file or another program: nothing needs to fit
        console = Console(highlight=False, width=max(needed, len(title), len(caption), 80))
    if needed <= console.width or text:
        console.print(_table(headings, rows, title, caption, text))
        return
    # Too narrow: a column for each row, as many at once as fit.
    first = max(map(len, headings)) + _PADDING + 1
    while rows:
        count, used = 0, first
        while count < len(rows) and used + (wide := max(map(len, rows[count])) + _PADDING) <= (
            console.width
        ):
            count, used = count + 1, used + wide
        part, rows = rows[: max(1, count)], rows[max(1, count) :]
        lines = [[head, *(row[i] for row in part)] for i, head in enumerate(headings)]
        console.print(_table(lines[0], lines[1:], title, "" if rows else caption, text))
        title = ""


def _table(
    headings: Sequence[str], rows: list[list[str]], title: str, caption: str, text: bool
) -> Table:
    table = Table(title=title or None, caption=caption or None)
    for number, heading in enumerate(headings):
        left = text or not number
        name = text and not number  # to be copied: in one piece
        justify: Literal["left", "right"] = "left" if left else "right"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=name)
    for row in rows:
        table.add_row(*row)
    return table


def measured(value: float) -> str:
    """Return a measure with four decimals, or "undefined" where the rows define none."""
    return "undefined" if math.isnan(value) else f"{value:.4f}"


def print_figures(figures: list[tuple[str, str]]) -> None:
    """Print names and values in two columns."""
    width = max(len(name) for name, _ in figures)
    for name, value in figures:
        print(f"{name:<{width}}  {value}")
