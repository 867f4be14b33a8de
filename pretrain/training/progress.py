"""The progress of a run: a live panel on a terminal, log lines elsewhere."""

import contextlib
import logging
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.live import Live

from convbert.pretrain.run import metric_names
from convbert.pretrain.training.dashboard import Dashboard

log = logging.getLogger(__name__)


class Progress:
    """Progress of a run from ``start`` to ``total`` updates; silent unless ``enabled``.

    ``title`` names the run and what it computes on.
    """

    def __init__(self, title: str, total: int, start: int, *, enabled: bool) -> None:
        self.total = total
        self.enabled = enabled
        self._title = title
        self._begun = (time.monotonic(), start)
        self._dashboard = Dashboard(title, total)
        self._live: Live | None = None
        if enabled and sys.stderr.isatty():
            console = Console(file=sys.stderr)
            self._live = Live(self._dashboard, console=console, refresh_per_second=2)

    def __enter__(self) -> "Progress":
        if self._live is not None:
            self._live.start()
        elif self.enabled:
            log.info(f"{self._title}: updates {self._begun[1] + 1:,} to {self.total:,}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            with contextlib.suppress(OSError):  # the terminal may be gone
                self._live.stop()

    def update(self, step: int, values: dict[str, float]) -> None:
        """Show the state after ``step`` updates."""
        if not self.enabled:
            return
        left = f"{self._remaining(step)} left"
        self._dashboard.update(step, values, left)
        if self._live is None:
            log.info(f"step {step}/{self.total}  {_line(values)}  {left}")

    def _remaining(self, step: int) -> str:
        begun, start = self._begun
        seconds = (time.monotonic() - begun) / max(1, step - start) * (self.total - step)
        hours, rest = divmod(round(seconds), 3600)
        return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


def _line(values: dict[str, float]) -> str:
    parts = [
        f"loss {values[metric_names.LOSS_TOTAL]:.3f}",
        f"mlm {values[metric_names.LOSS_MLM]:.3f}",
    ]
    if metric_names.LOSS_RTD in values:
        parts.append(f"rtd {values[metric_names.LOSS_RTD]:.4f}")
    parts += [
        f"lr {values[metric_names.LEARNING_RATE]:.2e}",
        f"norm {values[metric_names.GRADIENT_NORM]:.2f}",
        f"{values[metric_names.TOKENS_PER_SECOND]:,.0f} tok/s",
        f"mfu {values[metric_names.MFU]:.1%}",
    ]
    return "  ".join(parts)
