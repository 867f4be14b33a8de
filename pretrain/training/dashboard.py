"""The live panel of a run: a bar, numbers and their recent history."""

from collections import defaultdict, deque

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from convbert.pretrain.run import metric_names
from convbert.pretrain.run.metric_names import SECTIONS

_BLOCKS = "▁▂▃▄▅▆▇█"
_HISTORY = 18
_COLOURS = dict(zip(SECTIONS, ("yellow", "blue", "cyan", "magenta", "green", "red"), strict=True))
_WIDTH = 40
_OF_ONE_KIND = ("forward", "backward", "optimizer", "update")  # either the last or the others

# Rows of the two tables: metric, label, format.
_LEARNING = (
    (metric_names.LOSS_TOTAL, "loss", "{:.4f}"),
    (metric_names.LOSS_MLM, "  generator", "{:.4f}"),
    (metric_names.LOSS_RTD, "  discriminator", "{:.4f}"),
    (metric_names.GENERATOR_ACCURACY, "gen. accuracy", "{:.1%}"),
    (metric_names.DISCRIMINATOR_PRECISION, "disc. precision", "{:.1%}"),
    (metric_names.DISCRIMINATOR_RECALL, "disc. recall", "{:.1%}"),
    (metric_names.GRADIENT_NORM, "gradient norm", "{:.3g}"),
    (metric_names.LEARNING_RATE, "learning rate", "{:.2e}"),
    (metric_names.LEFT_OUT, "left out", "{:.0f}"),
)
_SPEED = (
    (metric_names.TOKENS_PER_SECOND, "tokens/s", "{:,.0f}"),
    (metric_names.MFU, "MFU", "{:.1%}"),
    (metric_names.STEP_SECONDS, "s/update", "{:.3f}"),
    (metric_names.TOKENS, "tokens", "{:.3e}"),
    (metric_names.FLOPS_ELECTRA, "FLOPs", "{:.3e}"),
    (metric_names.DEVICE_PEAK_BYTES, "GPU memory", "{:.2f} GB"),
    (metric_names.HOST_PEAK_BYTES, "host memory", "{:.2f} GB"),
)
_ONLY_RISES = (
    metric_names.LEFT_OUT,
    metric_names.TOKENS,
    metric_names.FLOPS_ELECTRA,
    metric_names.DEVICE_PEAK_BYTES,
    metric_names.HOST_PEAK_BYTES,
)
_LABELS = max(len(label) for _, label, _ in (*_LEARNING, *_SPEED))


def sparkline(values: list[float]) -> str:
    """Draw values as blocks between their least and greatest."""
    finite = [v for v in values if v == v and abs(v) != float("inf")]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BLOCKS[round((v - low) * scale)] if v in finite else "×" for v in values)


class Dashboard:
    """Collects reports and renders the latest one with the history of the last few."""

    def __init__(self, title: str, total: int) -> None:
        self._title = title
        self._total = total
        self._step = 0
        self._note = ""
        self._values: dict[str, float] = {}
        self._history: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_HISTORY))

    def update(self, step: int, values: dict[str, float], note: str) -> None:
        """Take a report; ``note`` stands beside the bar."""
        self._step, self._values, self._note = step, values, note
        for name, value in values.items():
            self._history[name].append(value)

    def __rich__(self) -> RenderableType:
        """Return the panel."""
        head = Table.grid(expand=True, padding=(0, 1))
        head.add_column(ratio=1)
        head.add_column(justify="right")
        bar = ProgressBar(total=self._total, completed=self._step)
        head.add_row(bar, f"{self._step:,}/{self._total:,}  {self._note}")
        if self._values:
            tables = Columns([self._table(_LEARNING), self._table(_SPEED)], padding=(0, 4))
            body: list[RenderableType] = [head, tables, self._split()]
        else:
            body = [head, Text("until the first report", "dim")]
        return Panel(Group(*body), title=self._title, border_style="dim")

    def _table(self, rows: tuple[tuple[str, str, str], ...]) -> Table:
        table = Table.grid(padding=(0, 1))
        table.add_column(style="dim", min_width=_LABELS)
        table.add_column(justify="right", min_width=10)
        table.add_column(style="green", no_wrap=True, min_width=_HISTORY)
        for name, label, form in rows:
            if name in self._values:
                value = self._values[name] / (1e9 if name.startswith("memory/") else 1)
                past = [] if name in _ONLY_RISES else list(self._history[name])
                table.add_row(label, form.format(value), sparkline(past))
        return table

    def _split(self) -> Text:
        """Draw where the time of an update goes, as one bar of colored parts over their names."""
        seconds = {
            name: self._values.get(metric_names.section_seconds(name), 0.0) for name in SECTIONS
        }
        whole = max(self._values.get(metric_names.STEP_SECONDS, 0.0), sum(seconds.values()))
        bar, legend = Text(), Text()
        for name, spent in seconds.items():
            if not spent and name in _OF_ONE_KIND:
                continue
            share = spent / whole if whole else 0.0
            bar.append("█" * round(share * _WIDTH), _COLOURS[name])
            legend.append(f"{name} {share:.0%}  ", _COLOURS[name])
        rest = 1 - sum(seconds.values()) / whole if whole else 0.0
        bar.append("█" * (_WIDTH - len(bar)), "dim")
        legend.append(f"rest {rest:.0%}", "dim")
        return Text("\n").join([bar, legend])
