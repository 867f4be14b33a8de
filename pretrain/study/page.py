"""The page of a study: tables, a figure and the report, from whatever runs are finished."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convbert.data_pipeline.atomic import atomic_write
from convbert.data_pipeline.templates import templates
from convbert.pretrain.report.curve import BLUE, GREY
from convbert.pretrain.report.page import write_report
from convbert.pretrain.report.targets import falls
from convbert.pretrain.run import metric_names
from convbert.pretrain.study.design import Design
from convbert.pretrain.study.measured import Results
from convbert.pretrain.study.results import (
    DISCRIMINATOR_LOSS,
    Difference,
    Variant,
    collect,
    compared_with,
    difference,
    measures,
    share_to_reach,
    write_variants,
)
from convbert.pretrain.study.tuning import compared_runs, tried_rates


def write_study_page(design: Design, root: Path) -> Path:
    """Write the page, its picture and ``report.html`` into ``root``; return the page's path.

    Page and picture are named after ``root``. Only finished runs count.
    """
    name = root.resolve().name
    results = Results(design, root)
    variants = collect(results, compared_runs(design, results))
    if variants:
        wanted = measures(design, variants)
        draw_measures(variants, wanted, root / _picture(name))
        write_report(write_variants(design, root, variants, wanted), root / "report.html")
    page = root / f"{name}.md"
    with atomic_write(page) as file:
        file.write(render(design, variants, tried_rates(design, results), name).encode())
    return page


def render(
    design: Design,
    variants: Sequence[Variant],
    tried: Mapping[str, Mapping[float, float]] | None = None,
    name: str = "study",
) -> str:
    """Return the page's Markdown; without variants, the method alone.

    ``tried`` is the loss at each factor of the learning rates, by variant; ``name`` that of the
    study's directory in the commands.
    """
    environment = templates("convbert.pretrain.study", html=False)
    wanted = measures(design, variants) if variants else []
    reference = next((v for v in variants if v.name == design.reference), None)
    ranking = [m for m in wanted if m != DISCRIMINATOR_LOSS]
    # A measure that is taken at the end alone has no share of the budget.
    goals = {
        m: reference.final(m).median
        for m in ranking
        if reference and sum(p.spread.defined for p in reference.curves[m].points) > 1
    }
    differences = [
        (variant, {m: difference(variant, reference, m) for m in wanted})
        for variant in variants
        if reference and variant is not reference
    ]
    return environment.get_template("page.md.j2").render(
        design=design,
        variants=list(variants),
        measures=wanted,
        differences=differences,
        shares=[(v, {m: share_to_reach(v, goals[m], m) for m in goals}) for v, _ in differences],
        goals=goals,
        levels=[(m, *compared_with(variants, m)) for m in wanted if variants[0].curves[m].lexical],
        verdicts={m: _verdict(m, differences) for m in ranking},
        picture=_picture(name),
        name=name,
        command=f"convbert study {design.file}".rstrip(),
        tried=tried or {},
    )


def _picture(name: str) -> str:
    return f"images/{name}.png"


def _verdict(measure: str, differences: list[tuple[Variant, dict[str, Difference]]]) -> str:
    """Describe which variants' intervals lie wholly on one side of the reference."""
    sign = -1 if falls(measure) else 1
    better, worse = [], []
    for variant, gaps in differences:
        gap = gaps[measure]
        if gap.low is None or gap.high is None:
            continue
        if min(sign * gap.low, sign * gap.high) > 0:
            better.append(variant.name)
        elif max(sign * gap.low, sign * gap.high) < 0:
            worse.append(variant.name)
    parts = [f"better than the reference: {', '.join(better)}"] if better else []
    parts += [f"worse: {', '.join(worse)}"] if worse else []
    parts += ["the others cannot be told from it" if parts else "no variant can be told from it"]
    return "; ".join(parts) + "."


def draw_measures(variants: Sequence[Variant], wanted: Sequence[str], path: Path) -> None:
    """Draw each measure as a row of dots: seeds, their range and median, variant by variant."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [m for m in wanted if m != DISCRIMINATOR_LOSS]
    height = 1.1 + 0.3 * len(variants)
    figure = Figure(figsize=(2.9 * len(shown) + 1.2, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for number, measure in enumerate(shown):
        axes = figure.add_subplot(1, len(shown), number + 1)
        _draw_measure(axes, variants, measure)
        if number:
            axes.tick_params(axis="y", labelleft=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        figure.savefig(file, format="png")


def _draw_measure(axes: Any, variants: Sequence[Variant], measure: str) -> None:
    for row, variant in enumerate(variants):
        spread = variant.final(measure)
        axes.plot([spread.low, spread.high], [row, row], color=BLUE, linewidth=2, alpha=0.5)
        axes.plot(spread.scores, [row] * len(spread.scores), ".", color=BLUE, alpha=0.6, ms=6)
        axes.plot([spread.median], [row], "|", color=BLUE, ms=13, mew=2.5)
    axes.axvline(variants[0].final(measure).median, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(variants)), [v.name for v in variants])
    axes.set_ylim(len(variants) - 0.5, -0.5)
    axes.set_title(
        measure.removeprefix(metric_names.HELD_OUT_PREFIX),
        loc="left",
        fontsize=10,
        fontweight="bold",
    )
    axes.set_xlabel("lower is better" if falls(measure) else "higher is better", fontsize=9)
    axes.grid(axis="x", color="#d9d9d9", linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(labelsize=9)
