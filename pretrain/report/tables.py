"""The tables of a page about measures: costs, checkpoints, published and measured averages."""

from collections.abc import Sequence
from importlib import resources
from typing import Any

import yaml

from convbert.pretrain.report.charts import decides, measures
from convbert.pretrain.report.families import Family
from convbert.pretrain.report.levels import levels
from convbert.pretrain.report.runs import ReportRun
from convbert.pretrain.report.targets import falls, frontier, reach, round_targets
from convbert.pretrain.run import metric_names

# What GLUE's average is made of, and the SQuAD columns, by the names of the packaged tasks.
GLUE = (
    "cola/matthews", "sst2/accuracy", "mrpc/accuracy", "stsb/spearman", "qqp/accuracy",
    "mnli/accuracy", "qnli/accuracy", "rte/accuracy",
)  # fmt: skip
SQUAD = {"squad1": "squad1/f1", "squad2": "squad2/best_f1"}


def cost_tables(runs: Sequence[ReportRun], names: Sequence[str]) -> list[dict[str, Any]]:
    """Build, for each deciding measure, the table of costs and that of the runs' best points."""
    tables = []
    for measure in (name for name in measures(runs) if decides(name, runs)):
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


def shown_of(family: Family, runs: Sequence[ReportRun]) -> list[str]:
    """List what a family's table shows: the tasks' deciding measures, else the held-out loss."""
    found = [m for m in measures(runs) if any(m in row.values for row in family.rows)]
    held_out = metric_names.held_out(metric_names.LOSS_MLM)
    return [m for m in found if decides(m, runs)] or [m for m in found if m == held_out]


def published_rows() -> list[dict[str, Any]]:
    """Return the published models by FLOPs, and which no other one beats."""
    content = (resources.files("convbert.pretrain.report") / "published.yaml").read_text()
    rows: list[dict[str, Any]] = yaml.safe_load(content)["rows"]
    rows.sort(key=lambda row: row["flops"])
    best = frontier((row["flops"], row["glue"]) for row in rows)
    return [row | {"best": mark} for row, mark in zip(rows, best, strict=True)]


def glue_rows(runs: Sequence[ReportRun], names: Sequence[str]) -> list[dict[str, Any]]:
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
