"""``convbert report``: one HTML file about several runs that needs nothing but itself."""

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from convbert.data_pipeline.atomic import atomic_write
from convbert.data_pipeline.templates import templates
from convbert.models.errors import UserError
from convbert.pretrain.report.families import Cost, Family, gather
from convbert.pretrain.report.levels import levels
from convbert.pretrain.report.runs import SHOWN, Measured, ReportRun, differing, read_run
from convbert.pretrain.report.targets import Reach, falls, frontier, reach, round_targets
from convbert.pretrain.run import metric_names

# What GLUE's average is made of, and the SQuAD columns, by the names of the packaged tasks.
GLUE = (
    "cola/matthews", "sst2/accuracy", "mrpc/accuracy", "stsb/spearman", "qqp/accuracy",
    "mnli/accuracy", "qnli/accuracy", "rte/accuracy",
)  # fmt: skip
SQUAD = {"squad1": "squad1/f1", "squad2": "squad2/best_f1"}


def write_report(paths: Sequence[Path], output: Path) -> Path:
    """Write the page about the runs in ``paths``; return its path.

    Raises ``UserError`` for a directory that is no run or holds nothing to show, and for a run
    that is named twice.
    """
    resolved = [path.resolve() for path in paths]
    for path in resolved:
        if resolved.count(path) > 1:
            raise UserError(f"{path}: named twice; leave one out")
    page = render([read_run(path) for path in paths])
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(output) as file:
        file.write(page.encode())
    return output


def render(runs: Sequence[ReportRun]) -> str:
    """Return the page's HTML; branches of one trunk are one curve."""
    runs, families = gather(runs)
    folder = resources.files("convbert.pretrain.report")
    environment = templates("convbert.pretrain.report", html=True)
    environment.filters |= {"amount": _amount, "value": _value, "reach": _reach, "cost": _cost}
    names = _names(runs)
    charts = [_measure_chart(*measure, runs) for measure in enumerate(_measures(runs))]
    charts += _training_charts(runs)
    data = {"runs": [{"name": name} for name in names], "charts": charts}
    # In a script element only "<" could end the text early.
    embedded = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    return environment.get_template("page.html.j2").render(
        names=names,
        runs=runs,
        uncurved=[
            name
            for name, run in zip(names, runs, strict=True)
            if not run.curves and not run.undefined
        ],
        undefined=[(n, run.undefined) for n, run in zip(names, runs, strict=True)],
        tables=_tables(runs, names),
        families=families,
        family_measures=[_shown_of(family, runs) for family in families],
        charts=charts,
        data=embedded,
        style=(folder / "page.css").read_text(),
        script=(folder / "page.js").read_text(),
        published=_published_rows(),
        measured=_glue_rows(runs, names),
        differences=differing(list(runs)) if len(runs) > 1 else [],
    )


def _names(runs: Sequence[ReportRun]) -> list[str]:
    """Return the runs' names, those that several share with their path."""
    names = [run.name for run in runs]
    return [n if names.count(n) == 1 else str(r.path) for n, r in zip(names, runs, strict=True)]


def _measures(runs: Sequence[ReportRun]) -> list[str]:
    """List all measures, those that tasks are judged by first."""
    names = {name for run in runs for name in run.curves}
    return sorted(names, key=lambda name: (not _decides(name, runs), name))


def _decides(measure: str, runs: Sequence[ReportRun]) -> bool:
    return any(run.curves[measure].decides for run in runs if measure in run.curves)


def _measure_chart(number: int, name: str, runs: Sequence[ReportRun]) -> dict[str, Any]:
    series = []
    for index, run in enumerate(runs):
        curve = run.curves.get(name)
        if curve is not None:
            points = [_point(point, run) for point in curve.points]
            base = _point(curve.baseline, run) if curve.baseline else None
            series.append({"run": index, "points": points, "base": base})
    large = _decides(name, runs)
    chart = {"id": f"measure-{number}", "title": name, "series": series, "large": large}
    return chart | {"levels": levels(name, runs, _names(runs))}


def _point(point: Measured, run: ReportRun) -> dict[str, Any]:
    return {
        "x": point.flops,
        "y": point.value,
        "low": point.low,
        "high": point.high,
        "seeds": point.seeds,
        "step": point.step,
        "hours": run.track.hours_at(point.flops),
    }


def _training_charts(runs: Sequence[ReportRun]) -> list[dict[str, Any]]:
    charts = []
    for number, (metric, title) in enumerate(SHOWN.items()):
        series = [
            {
                "run": index,
                # Between the branches of one trunk the line is not drawn.
                "points": [
                    {"x": flops, "y": value, "hours": track.hours_at(flops), "part": part}
                    for part, track in enumerate(run.parts or (run.track,))
                    for flops, value in track.metrics[metric]
                ],
                "base": None,
            }
            for index, run in enumerate(runs)
        ]
        if any(entry["points"] for entry in series):
            chart = {"id": f"training-{number}", "title": title, "series": series, "large": False}
            charts.append(chart | {"levels": [], "dense": True})
    return charts


def _tables(runs: Sequence[ReportRun], names: Sequence[str]) -> list[dict[str, Any]]:
    """Build, for each deciding measure, the table of costs and that of the runs' best points."""
    tables = []
    for measure in (name for name in _measures(runs) if _decides(name, runs)):
        curves = {
            n: (run.curves[measure], run.track)
            for n, run in zip(names, runs, strict=True)
            if measure in run.curves
        }
        targets = round_targets([curve for curve, _ in curves.values()])
        costs = [
            (target, [reach(curve, target, track) for curve, track in curves.values()])
            for target in targets
        ]
        tables.append(
            {
                "measure": measure,
                "names": list(curves),
                "costs": costs,
                "pareto": _pareto(measure, curves),
                "untrained": [(name, c.baseline) for name, (c, _) in curves.items() if c.baseline],
                "levels": levels(measure, runs, names),
            }
        )
    return tables


def _pareto(measure: str, curves: dict[str, Any]) -> list[dict[str, Any]]:
    """List every checkpoint of every run by FLOPs, and which ones no other one beats."""
    rows = [
        {"run": name, "point": point, "hours": track.hours_at(point.flops)}
        for name, (curve, track) in curves.items()
        for point in curve.points
    ]
    rows.sort(key=lambda row: (row["point"].flops, row["run"]))
    places = [(row["point"].flops, row["point"].value) for row in rows]
    best = frontier(places, falling=falls(measure))
    return [row | {"best": mark} for row, mark in zip(rows, best, strict=True)]


def _shown_of(family: Family, runs: Sequence[ReportRun]) -> list[str]:
    """List what a family's table shows: the tasks' deciding measures, else the held-out loss."""
    found = [m for m in _measures(runs) if any(m in row.values for row in family.rows)]
    held_out = metric_names.held_out(metric_names.LOSS_MLM)
    return [m for m in found if _decides(m, runs)] or [m for m in found if m == held_out]


def _published_rows() -> list[dict[str, Any]]:
    content = (resources.files("convbert.pretrain.report") / "published.yaml").read_text()
    rows: list[dict[str, Any]] = yaml.safe_load(content)["rows"]
    rows.sort(key=lambda row: row["flops"])
    best = frontier((row["flops"], row["glue"]) for row in rows)
    return [row | {"best": mark} for row, mark in zip(rows, best, strict=True)]


def _glue_rows(runs: Sequence[ReportRun], names: Sequence[str]) -> list[dict[str, Any]]:
    """Average the dev scores of every checkpoint that was fine-tuned on all eight GLUE tasks."""
    rows = []
    for name, run in zip(names, runs, strict=True):
        scores = {
            measure: {point.flops: point for point in run.curves[measure].points}
            for measure in (*GLUE, *SQUAD.values())
            if measure in run.curves
        }
        if not set(GLUE) <= set(scores):
            continue
        for flops in sorted(set.intersection(*(set(scores[measure]) for measure in GLUE))):
            squad = {
                key: 100 * scores[measure][flops].value
                for key, measure in SQUAD.items()
                if flops in scores.get(measure, {})
            }
            mean = 100 * sum(scores[measure][flops].value for measure in GLUE) / len(GLUE)
            step = scores[GLUE[0]][flops].step
            rows.append({"run": name, "step": step, "flops": flops, "glue": mean, **squad})
    return rows


def _amount(number: float | None) -> str:
    """Format FLOPs or hours with three digits."""
    if number is None:
        return "not recorded"
    return f"{number:.3g}" if 0.001 <= number < 1e6 or number == 0 else f"{number:.2e}"


def _cost(cost: Cost, unit: str = "") -> str:
    hours = "" if cost.hours is None else f" · {_amount(cost.hours)} h"
    return f"{_amount(cost.flops)}{unit}{hours}"


def _value(number: float) -> str:
    return f"{number:.4f}" if abs(number) < 10 else f"{number:.2f}"


def _reach(found: Reach) -> str:
    if found.kind == "never":
        return "not reached"
    if found.kind == "baseline":
        return "0 (without pretraining)"
    sign = "≤ " if found.kind == "at most" else ""
    hours = "" if found.hours is None else f" · {_amount(found.hours)} h"
    return f"{sign}{_amount(found.flops)}{hours}"
