"""Tables on the terminal, and the same as CSV or JSON for other programs."""

import csv
import json
import math
import re
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Literal

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table

Format = Literal["table", "csv", "json"]
# As the tables write numbers: a name such as 6_0 or 007, or a list such as 1,2, is none.
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*|[1-9][0-9]{0,2}(,[0-9]{3})+)(\.[0-9]+)?(e[+-][0-9]{2})?")
_PADDING = 3  # of a column: its border and a blank on each side


class Output:
    """Prints tables in one format; notes go beside them, to stderr where a program reads."""

    def __init__(self, form: Format = "table") -> None:
        self._form = form
        self._printed = False

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
        text: Collection[str] = (),
    ) -> None:
        """Print rows of cells below their headings; numbers but the first column and ``text``.

        JSON is an object a line for each table: its title, and a list of rows by heading. A blank
        line separates CSV tables.
        """
        cells = [list(row) for row in rows]
        if self._form == "json":
            found = [dict(zip(headings, map(_value, row), strict=True)) for row in cells]
            about = {"title": title} | ({"caption": caption} if caption else {})
            print(json.dumps(about | {"rows": found}, ensure_ascii=False))
        elif self._form == "csv":
            if self._printed:
                print()
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(headings)
            writer.writerows([_value(cell) for cell in row] for row in cells)
        else:
            _print(headings, cells, title, caption, text)
        self._printed = True

    def figures(self, figures: Iterable[tuple[str, str]]) -> None:
        """Print names and what they have."""
        self.table(("what", "value"), figures, text=("what", "value"))


def _value(cell: str) -> str | int | float | None:
    """Return the number that a cell shows, or its text; None where it is undefined."""
    if cell in ("", "undefined"):
        return None
    if not _NUMBER.fullmatch(cell):
        return cell
    plain = cell.replace(",", "")
    return float(plain) if set(plain) & set(".e") else int(plain)


def _print(
    headings: Sequence[str],
    rows: list[list[str]],
    title: str,
    caption: str,
    text: Collection[str],
) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:  # a file or another program: nothing needs to fit
        wide = max(_needed(headings, rows), len(title), len(caption), 80)
        console = Console(highlight=False, width=wide)
    console.print(fitted(headings, rows, console.width, title=title, caption=caption, text=text))


def fitted(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    *,
    title: str = "",
    caption: str = "",
    text: Collection[str] = (),
) -> Group:
    """Return a table of at most ``width`` characters that shows every number whole.

    Where it is too wide its rows become columns, as many beside each other as fit. A table that is
    all ``text`` folds its cells instead.
    """
    if _needed(headings, rows) <= width or set(headings) <= {headings[0], *text}:
        return Group(_table(headings, rows, title, caption, text))
    first = max(map(len, headings)) + _PADDING + 1
    tables = []
    left = [list(row) for row in rows]
    while left:
        count, used = 1, first + max(map(len, left[0])) + _PADDING
        while count < len(left):
            used += max(map(len, left[count])) + _PADDING
            if used > width:
                break
            count += 1
        part, left = left[:count], left[count:]
        lines = [[head, *(row[i] for row in part)] for i, head in enumerate(headings)]
        last = "" if left else caption
        tables.append(_table(lines[0], lines[1:], title, last, (), keep_first=True))
        title = ""
    return Group(*tables)


def _needed(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    return sum(widths) + _PADDING * len(widths) + 1


def _table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    title: str,
    caption: str,
    text: Collection[str],
    *,
    keep_first: bool = False,
) -> Table:
    table = Table(title=title or None, caption=caption or None)
    for number, heading in enumerate(headings):
        left = heading in text or not number
        name = (bool(text) or keep_first) and not number  # to be copied: in one piece
        justify: Literal["left", "right"] = "left" if left else "right"
        table.add_column(escape(heading), justify=justify, overflow="fold", no_wrap=name)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def measured(value: float) -> str:
    """Return a measure with four decimals, or "undefined" where the rows define none."""
    return "undefined" if math.isnan(value) else f"{value:.4f}"


def counted(number: int, thing: str) -> str:
    """Return ``1 seed`` or ``3 seeds``."""
    return f"{number:,} {thing}{'s' * (number != 1)}"
