"""How a run shows itself: a live bar on a terminal, plain lines in a log file."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress


class Progress:
    """Progress of a run from ``start`` to ``total`` updates; silent unless ``enabled``."""

    def __init__(self, total: int, start: int, *, enabled: bool) -> None:
        self.total = total
        self.enabled = enabled
        self._begun = (time.monotonic(), start)
        self._bar = RichProgress(
            TextColumn("pretraining"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            disable=not (enabled and sys.stderr.isatty()),
        )
        self._task = self._bar.add_task("pretraining", total=total, completed=start, note="")

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def update(self, step: int, values: dict[str, float]) -> None:
        """Show the state after ``step`` updates."""
        if not self.enabled:
            return
        note = f"loss {values['loss/total']:.3f}  {values['speed/tokens_per_second']:,.0f} tok/s"
        if self._bar.disable:
            print(f"step {step}/{self.total}  {note}  {self._remaining(step)} left", flush=True)
        else:
            self._bar.update(self._task, completed=step, note=note)

    def _remaining(self, step: int) -> str:
        begun, start = self._begun
        seconds = (time.monotonic() - begun) / max(1, step - start) * (self.total - step)
        hours, rest = divmod(round(seconds), 3600)
        return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
