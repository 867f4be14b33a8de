"""Progress on a terminal: a spinner, or a bar over what is known of the input's size."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

OnProgress = Callable[[int, int], None]
"""Called with the documents and the size that were added."""


@contextmanager
def spinner(what: str) -> Iterator[None]:
    """Show a spinner with the time while the block runs, on a terminal only."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        progress.add_task(what)
        yield


@contextmanager
def bar(what: str, total: int, *, documents: bool = True) -> Iterator[OnProgress]:
    """Show a bar over ``total`` while the block runs, on a terminal only."""
    console = Console(stderr=True)
    count = [TextColumn("{task.fields[documents]:,} documents")] if documents else []
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), *count)
    done = [0, 0]
    with Progress(
        *columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(what, total=total or None, documents=0)

        def report(documents: int, size: int) -> None:
            done[0] += documents
            done[1] += size
            progress.update(task, completed=done[1], documents=done[0])

        yield report
