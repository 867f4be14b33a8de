"""Progress of a command: a live line on a terminal, elsewhere a line now and then on stderr."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from convbert.data_pipeline.log_lines import clock, now_and_then

Item = TypeVar("Item")
OnProgress = Callable[[int, int], None]
"""Called with the documents and the size that were added."""
_AT_ONCE = 64  # items: counting each of them would take longer than reading some


class Counter:
    """What a command has done so far of what it has to do; threads may share it."""

    def __init__(self, progress: Progress, task: Task) -> None:
        self._progress, self._task, self._lock = progress, task, threading.Lock()

    def advance(self, count: float = 1, size: float | None = None) -> None:
        """Add to the count, and to the bar where that measures something else, such as bytes."""
        with self._lock:
            counted = self._task.fields["count"] + count
            done = count if size is None else size
            self._progress.update(self._task.id, advance=done, count=counted)

    def each(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items and count them."""
        number = 0
        for number, item in enumerate(items, 1):
            yield item
            if number % _AT_ONCE == 0:
                self.advance(_AT_ONCE)
        self.advance(number % _AT_ONCE)

    def say(self, line: str) -> None:
        """Print a line that stays, above the bar."""
        self._progress.console.print(line, markup=False, soft_wrap=True)


def _whole() -> Column:
    """Return a column that is never narrower than a time: rich takes width from it as well."""
    return Column(no_wrap=True, min_width=len("0:00:00"))


class _Amount(ProgressColumn):
    def get_table_column(self) -> Column:
        return _whole()

    def render(self, task: Task) -> Text:
        return Text(_amount(task))


@contextmanager
def counter(
    what: str, total: float | None = None, unit: str = "", *, by_size: bool = False
) -> Iterator[Counter]:
    """Show that ``what`` is done while the block runs, with a count of ``unit`` if that is given.

    ``total`` is that of the count, or ``by_size`` of something else that ``advance`` gets with it.
    Where it is None nobody knows how much there is: no bar, and no time left.
    """
    console = Console(stderr=True, highlight=False)
    bar = [BarColumn(bar_width=None)] if total else [SpinnerColumn()]
    left = [TimeRemainingColumn(table_column=_whole())] if total else []
    spent = TimeElapsedColumn(table_column=_whole())
    columns = (TextColumn("{task.description}"), *bar, _Amount(), spent, *left)
    live = console.is_terminal
    transient = not unit  # what counts something ends as a summary
    with Progress(
        *columns, console=console, disable=not live, transient=transient, expand=bool(total)
    ) as progress:
        progress.add_task(what, total=total, count=0.0, unit=unit, by_size=by_size)
        task = progress.tasks[0]
        with nullcontext() if live else now_and_then(lambda: _line(task)):
            yield Counter(progress, task)


@contextmanager
def documents(what: str, total_size: int) -> Iterator[OnProgress]:
    """Count documents, beside a bar over the size of all input where that is known (not 0)."""
    with counter(what, total_size or None, "documents", by_size=True) as count:
        yield count.advance


def _amount(task: Task) -> str:
    """Return how many there are, of how many, and how fast, in words."""
    count, elapsed = task.fields["count"] + 1e-6, task.elapsed  # shares of one add up to less
    if not task.fields["unit"]:
        return ""
    known = task.total is not None and not task.fields["by_size"]
    of = f" of {task.total:,.0f}" if known else ""
    rate = count / elapsed if elapsed and count >= 1 else 0.0
    each = f", {rate:,.0f}/s" if rate >= 1 else f", {1 / rate:,.0f} s each" if rate else ""
    return f"{int(count):,}{of} {task.fields['unit']}{each}"


def _line(task: Task) -> str:
    """Return the state for a log."""
    parts = [_amount(task), f"{clock(task.elapsed or 0)} gone"]
    if task.total and task.time_remaining is not None:
        parts.append(f"about {clock(task.time_remaining)} left")
    return f"{task.description}: {', '.join(filter(None, parts))}"
