"""The lines of the baseline that sees only words, on the page's charts and in its tables."""

from collections.abc import Sequence
from typing import Any

from convbert.pretrain.report.runs import ReportRun
from convbert.pretrain.run.curve import Level


def levels(measure: str, runs: Sequence[ReportRun], names: Sequence[str]) -> list[dict[str, Any]]:
    """List what the words alone gave, once for all runs of which it is the same.

    Several lines, of runs that were fine-tuned on other rows, are told apart by the runs' names.
    """
    found: list[tuple[Level, list[int]]] = []
    for index, run in enumerate(runs):
        level = run.curves[measure].lexical if measure in run.curves else None
        same = next((owners for other, owners in found if other == level), None)
        if same is not None:
            same.append(index)
        elif level is not None:
            found.append((level, [index]))
    return [
        {
            "name": level.name if len(found) == 1 else _named(level, [names[i] for i in owners]),
            "runs": owners,
            "y": level.spread.median,
            "low": level.spread.low,
            "high": level.spread.high,
            "draws": len(level.spread.scores),
        }
        for level, owners in found
    ]


def _named(level: Level, runs: Sequence[str]) -> str:
    return f"{level.name} ({', '.join(runs)})"
