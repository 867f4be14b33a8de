"""Looks at texts as lines for a terminal or a pipe: aligned by the cells that characters take."""

from collections.abc import Iterator, Sequence

import regex
from rich.cells import cell_len, chop_cells, set_cell_size
from rich.console import Console
from rich.text import Text

from convbert.pretrain.show.notes import SUSPECTED, origin, position, remarks
from convbert.pretrain.show.records import MASK, Filling, Look, Point, Sample, Series, Verdict

_INDENT, _GAP = 2, 2
_MOVES = regex.compile(r"[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]")
_KEY = (
    "P(replaced) under each token, * from 0.5. Below it the word of the text where the generator "
    "drew another one, and = where it drew the same."
)


def print_look(series: Series, point: Point, console: Console) -> None:
    """Print what one model makes of every text."""
    console.print(Text(f"{series.source}: {position(point)}", style="bold"))
    for sample, look in zip(series.samples, point.looks, strict=True):
        console.print()
        console.print(Text(_printable(sample.text)))
        for remark in remarks(look):
            console.print(Text(remark, style="dim"))
        _print_fillings(sample, look, console)
        if look.verdicts:
            for line in interlinear(look.verdicts, console.width):
                console.print(line, no_wrap=True, overflow="ignore", crop=False)
    if any(look.verdicts for look in point.looks):
        console.print()
        console.print(Text(_KEY, style="dim"))


def _print_fillings(sample: Sample, look: Look, console: Console) -> None:
    for number, fillings in enumerate(look.fillings, 1):
        counted = f" {number}" if len(look.fillings) > 1 else ""
        answer = f" (in the text: {sample.answer})" if sample.answer else ""
        console.print(Text(f"\n{MASK}{counted}{answer}", style="bold"))
        for filling in fillings:
            console.print(_filling(filling))


def _filling(filling: Filling) -> Text:
    word = _printable(filling.word)
    return Text(f"{'':{_INDENT}}{filling.probability:.4f}  {word}")


def interlinear(verdicts: Sequence[Verdict], width: int) -> Iterator[Text]:
    """Yield lines: tokens, the verdicts under them, the words that stood there; then the next.

    Every token takes as many cells as its widest line; none of the lines is wider than ``width``.
    """
    room = max(8, width - _INDENT)
    columns = [_column(verdict, room) for verdict in verdicts]
    while columns:
        used, taken = 0, 0
        for column in columns:
            needed = max(map(cell_len, column.plain))
            if taken and used + needed > room:
                break
            used += needed + _GAP
            taken += 1
        yield Text("")
        yield from _lines(columns[:taken])
        columns = columns[taken:]


class _Column:
    """The cells of one token, from top to bottom, with their styles."""

    def __init__(self, plain: tuple[str, str, str], styles: tuple[str, str, str]) -> None:
        self.plain = plain
        self.styles = styles


def _column(verdict: Verdict, room: int) -> _Column:
    suspected = verdict.replaced >= SUSPECTED
    plain = (
        _printable(verdict.word),
        f"{verdict.replaced:.2f}{'*' if suspected else ''}",
        _printable(origin(verdict)),
    )
    top, middle, bottom = (chop_cells(cell, room)[0] if cell else "" for cell in plain)
    return _Column((top, middle, bottom), ("bold", "red" if suspected else "dim", "yellow"))


def _lines(columns: Sequence[_Column]) -> Iterator[Text]:
    """Yield the three lines of tokens that share them, without an empty third one."""
    widths = [max(map(cell_len, column.plain)) for column in columns]
    for level in range(3):
        line = Text(" " * _INDENT)
        for column, cells in zip(columns, widths, strict=True):
            text = set_cell_size(column.plain[level], cells + _GAP)
            line.append(text, style=column.styles[level] if column.plain[level] else "")
        line.rstrip()
        if line.plain:
            yield line


def _printable(text: str) -> str:
    """Replace what would move the cursor or turn the direction of the line."""
    return _MOVES.sub("\ufffd", " ".join(text.split()) if text.strip() else text)
