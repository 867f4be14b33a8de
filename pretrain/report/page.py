"""One HTML file about one run or several that needs nothing but itself."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment

from convbert.data_pipeline.atomic import atomic_write
from convbert.data_pipeline.templates import templates
from convbert.models.errors import UserError
from convbert.pretrain.report import summary
from convbert.pretrain.report.charts import charts, run_data
from convbert.pretrain.report.families import Cost, gather
from convbert.pretrain.report.runs import ReportRun, differing, read_run
from convbert.pretrain.report.tables import cost_tables, glue_rows, published_rows, shown_of
from convbert.pretrain.report.targets import Reach
from convbert.pretrain.show.page import part as shared
from convbert.pretrain.show.page import render_looks
from convbert.pretrain.show.records import Series

SCRIPTS = ("chart.js", "page.js")


@dataclass(frozen=True)
class Live:
    """That a page is made again: what the run does, and when the browser shall look again."""

    state: str
    refresh: float | None


def write_report(paths: Sequence[Path], output: Path, price: float | None = None) -> Path:
    """Write the page about the runs in ``paths``; return its path.

    ``price`` is that of a process hour. Raises ``UserError`` for a directory that is no run or
    holds nothing to show, and for a run that is named twice.
    """
    require_distinct(paths)
    page = render([read_run(path) for path in paths], price=price)
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(output) as file:
        file.write(page.encode())
    return output


def require_distinct(paths: Sequence[Path]) -> None:
    """Raise ``UserError`` for a run that is named twice."""
    resolved = [path.resolve() for path in paths]
    for path in resolved:
        if resolved.count(path) > 1:
            raise UserError(f"{path}: named twice; leave one out")


def render(
    runs: Sequence[ReportRun],
    *,
    price: float | None = None,
    live: Live | None = None,
    samples: Series | None = None,
) -> str:
    """Return the page's HTML; branches of one trunk are one curve.

    ``samples`` are masks that the checkpoints of a single run filled.
    """
    runs, families = gather(runs)
    names = _names(runs)
    drawn = charts(runs, names)
    pairs = list(zip(names, runs, strict=True))
    template = _templates().get_template("page.html.j2")
    return template.render(
        names=names,
        runs=runs,
        live=live,
        price=price,
        figures=[summary.figures(name, run, price) for name, run in pairs],
        uncurved=[n for n, run in pairs if not (run.curves or run.undefined or live)],
        undefined=[(name, run.undefined) for name, run in pairs],
        tables=cost_tables(runs, names),
        families=families,
        family_measures=[shown_of(family, runs) for family in families],
        charts=drawn,
        sections=list(dict.fromkeys(c["section"] for c in drawn if not c["large"])),
        published=published_rows(),
        measured=glue_rows(runs, names),
        differences=differing(list(runs)),
        events=summary.events(runs, names),
        data=_embedded(runs, names, drawn, live),
        style=shared("base.css") + (shared("looks.css") if samples else "") + _part("page.css"),
        script="".join(map(_part, SCRIPTS)),
        looks=render_looks(samples) if samples else "",
        looks_script=shared("looks.js") if samples else "",
        **_of_one(runs, live),
    )


def _of_one(runs: Sequence[ReportRun], live: Live | None) -> dict[str, Any]:
    """Return what only the page of a single run says."""
    if len(runs) > 1:
        return {"alone": False, "left": "", "checkpoints": [], "machine": []}
    measures, rows = summary.checkpoints(runs[0])
    return {
        "alone": True,
        "left": summary.left(runs[0]) if live and live.refresh else "",
        "checkpoint_measures": measures,
        "checkpoints": rows,
        "machine": summary.machine(runs[0]),
    }


def _embedded(
    runs: Sequence[ReportRun], names: Sequence[str], drawn: list[dict[str, Any]], live: Live | None
) -> str:
    """Return what the page's script reads."""
    # Who watches one run thinks in updates, who compares costs in FLOPs.
    costs = len(runs) > 1 or any(chart["large"] for chart in drawn)
    quantity, scale = ("flops", "log") if costs else ("step", "linear")
    data = {
        "runs": [{"name": n, **run_data(run)} for n, run in zip(names, runs, strict=True)],
        "groups": summary.groups(runs, names),
        "charts": drawn,
        "start": {"quantity": quantity, "scale": scale},
        "live": asdict(live) | {"written": time.time()} if live else None,
    }
    # In a script element only "<" could end the text early.
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


@lru_cache
def _part(name: str) -> str:
    return (resources.files("convbert.pretrain.report") / name).read_text()


@lru_cache
def _templates() -> Environment:
    environment = templates("convbert.pretrain.report", html=True)
    environment.filters |= {
        "amount": _amount, "value": _value, "reach": _reach, "cost": _cost,
        "number": "{:,.0f}".format, "cell": _cell,
    }  # fmt: skip
    return environment


def _names(runs: Sequence[ReportRun]) -> list[str]:
    """Return the runs' names, those that several share with their path."""
    names = [run.name for run in runs]
    return [n if names.count(n) == 1 else str(r.path) for n, r in zip(names, runs, strict=True)]


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


def _cell(value: Any) -> dict[str, str]:
    """Return a setting's text and how its cell may break: numbers and short words stay whole."""
    text = "–" if value is None else str(value)
    return {"text": text, "kind": "long" if len(text) > 24 else "short"}
