"""The saved view of an experiment in MLflow's UI: all curves over training FLOPs.

By itself the UI draws metrics over their step. A view is a tag of the experiment, as *Save view* in
MLflow 3.17 writes it; it is linked to by ``run/tracking_links.py`` and in the experiment's
description. A view that a person has saved over ours stays as it is.
"""

import base64
import json
import zlib
from collections.abc import Iterable
from typing import Any

from convbert.pretrain.run.tracking_links import VIEW
from convbert.pretrain.tracking.mlflow_names import (
    CURVE_FLOPS,
    FLOPS,
    is_curve,
    is_loss,
    is_result,
)

VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
TAG_CHARACTERS = 5000  # the longest value that MLflow takes for a tag of an experiment
_MOST_CHARTS = 48
_OURS = "convbert"
_MODEL, _SYSTEM = "Model metrics", "System metrics"
"""MLflow's names for the last two sections."""
_COLUMNS = ("model.preset", "parameters", "data", "steps", "global_batch", "seed")
_RESULT_COLUMNS = 4


def view(metrics: Iterable[str], before: str | None, now_ms: int) -> str | None:
    """Return the tag of a view of ``metrics``, None where the tag ``before`` is to stay."""
    known = _read(before)
    if before is not None and _OURS not in known:
        return None  # saved by a person
    names = sorted(set(metrics))
    for most in range(_MOST_CHARTS, 0, -8):
        state = json.dumps(_state(names, most), separators=(",", ":"))
        packed = "deflate;" + base64.b64encode(zlib.compress(state.encode(), 9)).decode()
        if packed == known.get("state"):
            return None
        entry = {"name": "Curves over training FLOPs", "createdAt": known.get("createdAt", now_ms)}
        tag = json.dumps(entry | {"updatedAt": now_ms, "state": packed, _OURS: True})
        if len(tag) <= TAG_CHARACTERS:
            return tag
    return None


def _read(tag: str | None) -> dict[str, Any]:
    try:
        found = json.loads(tag or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _state(names: list[str], most: int) -> dict[str, Any]:
    """Return what the UI shows: sections in order, at most ``most`` charts, and columns."""
    results = [name for name in names if is_result(name)]
    sections = {
        "Results against training FLOPs": (results, CURVE_FLOPS),
        "Held-out text, pairs, probes against FLOPs": (
            [name for name in names if is_curve(name) and name not in results],
            CURVE_FLOPS,
        ),
        "Training losses against FLOPs": ([n for n in names if is_loss(n)], FLOPS),
    }
    charts: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []
    for number, (title, (drawn, axis)) in enumerate(sections.items()):
        if drawn:
            shown.append(_section(f"s{number}", title))
            charts += [_chart(f"s{number}", name, axis) for name in drawn]
    # The UI adds a chart for every other metric to the section of its name; here is their order.
    others = [name for name in names if not (is_curve(name) or is_loss(name))]
    rest = {name.rpartition("/")[0] for name in others} - {"", "system"}
    shown += [_section(f"r{n}", name) for n, name in enumerate([*sorted(rest), _MODEL, _SYSTEM])]
    return {
        "compareRunSections": shown,
        "compareRunCharts": charts[:most],
        "isAccordionReordered": True,
        "selectedColumns": [
            *(f"metrics.`{name}`" for name in results[:_RESULT_COLUMNS]),
            *(f"params.`{name}`" for name in _COLUMNS),
            "tags.`hardware`",
            "attributes.`Source`",
            "attributes.`Dataset`",
        ],
    }


def _section(key: str, name: str) -> dict[str, Any]:
    state = {"display": True, "isReordered": False, "deleted": False, "isGenerated": False}
    return {"uuid": key, "name": name, **state}


def _chart(section: str, metric: str, axis: str) -> dict[str, Any]:
    return {
        "uuid": f"{section}-{metric}",
        "type": "LINE",
        "metricSectionId": section,
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "runsCountToCompare": 20,
        "xAxisKey": "metric",
        "selectedXAxisMetricKey": axis,
        "useGlobalXaxisKey": False,
        "xAxisScaleType": "linear",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "scaleType": "linear",
        "range": {},
        "lineSmoothness": 0,
        "useGlobalLineSmoothing": True,
        "ignoreOutliers": False,
        "deleted": False,
        "isGenerated": False,
    }
