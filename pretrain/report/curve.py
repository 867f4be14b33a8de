"""The picture of a curve: accuracy after fine-tuning against pretraining FLOPs."""

from pathlib import Path
from typing import Any

from convbert.data_pipeline.atomic import atomic_write
from convbert.pretrain.run.curve import Curve, Level
from convbert.pretrain.run.tables import counted

# Okabe and Ito's palette: distinct with every kind of color vision and in print.
BLUE, VERMILION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#595959"


def draw_curve(curve: Curve, path: Path) -> None:
    """Draw the curve as a PNG: log axis, medians and ranges, what it is compared with as bands."""
    # Not pyplot: it keeps figures and a backend in global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # 792 pixels wide: MLflow shows it in a description as it is, beside its own column.
    figure = Figure(figsize=(7.2, 4.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _draw_level(axes, Level(name="without pretraining", spread=curve.baseline), VERMILION)
    if curve.lexical:
        _draw_level(axes, curve.lexical, GREEN, left=True)
    _draw_points(axes, curve)
    _label(axes, curve)
    with atomic_write(path) as file:
        figure.savefig(file, format="png")


def _draw_level(axes: Any, level: Level, color: str, *, left: bool = False) -> None:
    spread = level.spread
    if not spread.defined:
        return
    axes.axhspan(spread.low, spread.high, color=color, alpha=0.15, linewidth=0)
    dashes = (5, 3) if not left else (7, 2, 1.5, 2)  # told apart without colors too
    axes.axhline(spread.median, color=color, linestyle=(0, dashes), linewidth=1.6)
    axes.annotate(
        f"{level.name} {spread.median:.3f}",
        (0.01 if left else 0.99, spread.high),
        xycoords=axes.get_yaxis_transform(),
        xytext=(0, 4),
        textcoords="offset points",
        ha="left" if left else "right",
        color=color,
        fontweight="bold",
    )


def _draw_points(axes: Any, curve: Curve) -> None:
    defined = [point for point in curve.points if point.spread.defined]
    if not defined:
        _draw_absence(axes, curve)
        return
    flops = [point.flops for point in defined]
    spreads = [point.spread for point in defined]
    seeds = len(curve.baseline.scores)
    run = curve.run.replace("$", r"\$")  # else a formula
    axes.fill_between(
        flops, [s.low for s in spreads], [s.high for s in spreads], color=BLUE, alpha=0.18, lw=0
    )
    for x, spread in zip(flops, spreads, strict=True):
        axes.plot([x] * len(spread.scores), spread.scores, ".", color=BLUE, alpha=0.5, ms=5)
    axes.plot(
        flops,
        [s.median for s in spreads],
        "o-",
        color=BLUE,
        linewidth=2.2,
        markersize=6,
        label=f"{run}: median and range of {counted(seeds, 'seed')}",
    )
    axes.annotate(
        f"{spreads[-1].median:.3f}",
        (flops[-1], spreads[-1].high),
        xytext=(0, 7),
        textcoords="offset points",
        ha="center",
        color=BLUE,
        fontweight="bold",
    )


def _draw_absence(axes: Any, curve: Curve) -> None:
    """Say that the measure is undefined, where its points would be."""
    axes.text(
        *(0.5, 0.5, f"{curve.metric} is undefined on these rows"),
        **{"transform": axes.transAxes, "ha": "center", "color": GREY, "fontsize": 12},
    )
    flops = [point.flops for point in curve.points] or [1.0]
    axes.set_xlim(min(flops) / 2, max(flops) * 2)
    axes.set_yticks([])


def _labeled_digits(curve: Curve) -> tuple[float, ...]:
    """Return which multiples of a power of ten get a label: more of them for a short axis."""
    flops = [point.flops for point in curve.points]
    return (1.0,) if max(flops) > 100 * min(flops) else (1.0, 2.0, 5.0)


def _power_of_ten(value: float, _position: int) -> str:
    mantissa, exponent = f"{value:.0e}".split("e")
    factor = "" if mantissa == "1" else rf"{mantissa}\times"
    return f"${factor}10^{{{int(exponent)}}}$"


def _label(axes: Any, curve: Curve) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=_labeled_digits(curve)))
    axes.xaxis.set_major_formatter(FuncFormatter(_power_of_ten))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.07, y=0.12)
    axes.set_title(
        f"{curve.task.replace('_', ' ')}: {curve.metric} against pretraining compute",
        loc="left",
        fontsize=12.5,
        fontweight="bold",
        pad=10,
    )
    axes.set_xlabel("cumulative training FLOPs", fontsize=11)
    axes.set_ylabel(f"{curve.metric} on held-out rows", fontsize=11)
    axes.grid(which="major", color="#d9d9d9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(which="both", colors=GREY, labelsize=10)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best", frameon=False, fontsize=10)
