"""The charts of a page as data for its script: measures by checkpoint, and what training logged."""

from collections.abc import Iterator, Sequence
from typing import Any

from convbert.pretrain.report.levels import levels
from convbert.pretrain.report.runs import Measured, ReportRun
from convbert.pretrain.report.track import Place, Track
from convbert.pretrain.run import metric_names as names

QUANTITIES = ("flops", "tokens", "step", "hours")
"""What a page can have as its horizontal axis: the fields of a ``Place``."""

_GIGABYTES = 1e-9
_MEASURES = "Measures at checkpoints"

# The sections of a page and the metrics in them, each with its title and a factor for its unit.
_TRAINING: dict[str, dict[str, tuple[str, float]]] = {
    "Losses": {
        names.LOSS_TOTAL: ("training loss", 1),
        names.LOSS_MLM: ("generator loss, nats per masked token", 1),
        names.LOSS_RTD: ("discriminator loss, nats per token", 1),
    },
    "Generator and discriminator": {
        names.GENERATOR_ACCURACY: ("accuracy of the generator", 1),
        names.GENERATOR_SAMPLED_RATE: ("samples that differ from the token", 1),
        names.DISCRIMINATOR_PRECISION: ("precision of the discriminator", 1),
        names.DISCRIMINATOR_RECALL: ("recall of the discriminator", 1),
        names.DISCRIMINATOR_REPLACED_RATE: ("share of replaced tokens", 1),
        names.GENERATOR_MASKED_RATE: ("share of masked tokens", 1),
        names.GENERATOR_TEMPERATURE: ("temperature of the samples", 1),
    },
    "Learning rate and norms": {
        names.LEARNING_RATE: ("learning rate", 1),
        names.GRADIENT_NORM: ("gradient norm before clipping", 1),
        names.LOSS_SCALE: ("loss scale", 1),
        names.LEFT_OUT: ("updates left out", 1),
    },
    "Speed": {
        names.TOKENS_PER_SECOND: ("tokens per second", 1),
        names.MFU: ("share of the peak FLOP/s (MFU)", 1),
        names.STEP_SECONDS: ("seconds per update", 1),
        **{
            names.section_seconds(section): (f"seconds per update: {section}", 1)
            for section in names.SECTIONS
        },
    },
    "Memory": {
        names.DEVICE_PEAK_BYTES: ("GPU memory, peak, GB", _GIGABYTES),
        names.HOST_PEAK_BYTES: ("host memory, peak, GB", _GIGABYTES),
    },
}
_NORMS = "Learning rate and norms"
_PARTS = {"gradient_norm/": "gradient norm", "parameter_norm/": "parameter norm"}
# Of these a line says something only where it is not always the same.
_RARELY_MOVE = (
    names.LOSS_SCALE,
    names.LEFT_OUT,
    names.GENERATOR_TEMPERATURE,
    names.GENERATOR_MASKED_RATE,
)


def measures(runs: Sequence[ReportRun]) -> list[str]:
    """List all measures, those that tasks are judged by first."""
    found = {name for run in runs for name in run.curves}
    return sorted(found, key=lambda name: (not decides(name, runs), name))


def decides(measure: str, runs: Sequence[ReportRun]) -> bool:
    """Return whether a task is judged by a measure."""
    return any(run.curves[measure].decides for run in runs if measure in run.curves)


def charts(runs: Sequence[ReportRun], shown: Sequence[str]) -> list[dict[str, Any]]:
    """Return the charts of runs that the page calls ``shown``, in the order of its sections."""
    losses, *others = _training(runs)
    found = [_measure(*measure, runs, shown) for measure in enumerate(measures(runs))]
    large = [chart for chart in found if chart["large"]]
    small = [chart for chart in found if not chart["large"]]
    return [*large, *losses, *small, *(chart for section in others for chart in section)]


def run_data(run: ReportRun) -> dict[str, Any]:
    """Return the horizontal axes of a run's training metrics, and where its events were."""
    placed = [(event, run.track.at_step(event.at)) for event in run.events]
    return {
        "parts": [_columns([row.place for row in track.rows]) for track in run.tracks],
        "events": [
            _columns_of(place) | {"label": f"{event.event}: {event.action}"}
            for event, place in placed
            if place is not None
        ],
    }


def _columns(places: Sequence[Place]) -> dict[str, list[float | None]]:
    rows = [_columns_of(place) for place in places]
    return {quantity: [row[quantity] for row in rows] for quantity in QUANTITIES}


def _columns_of(place: Place) -> dict[str, Any]:
    return {quantity: _short(getattr(place, quantity), 7) for quantity in QUANTITIES}


def _short(value: float | None, digits: int = 5) -> float | None:
    """Round to what a chart can show: a page of many runs stays small."""
    if value is None or isinstance(value, int):
        return value
    return int(value) if value.is_integer() and abs(value) < 1e15 else float(f"{value:.{digits}g}")


def _measure(
    number: int, name: str, runs: Sequence[ReportRun], shown: Sequence[str]
) -> dict[str, Any]:
    series = []
    for index, run in enumerate(runs):
        curve = run.curves.get(name)
        if curve is not None:
            points = [_point(point, run.track) for point in curve.points]
            base = _point(curve.baseline, run.track) if curve.baseline else None
            series.append({"run": index, "points": points, "base": base})
    return {
        "id": f"measure-{number}",
        "title": name,
        "section": "Accuracy against training cost" if decides(name, runs) else _MEASURES,
        "series": series,
        "large": decides(name, runs),
        "levels": levels(name, runs, shown),
    }


def _point(point: Measured, track: Track) -> dict[str, Any]:
    where = track.at(point.flops, point.step)
    values = {"y": point.value, "low": point.low, "high": point.high, "seeds": point.seeds}
    return {quantity: getattr(where, quantity) for quantity in QUANTITIES} | values


def _training(runs: Sequence[ReportRun]) -> Iterator[list[dict[str, Any]]]:
    """Yield the charts of each section, without metrics that no run has."""
    tracks = [track for run in runs for track in run.tracks]
    logged = {name for track in tracks for row in track.rows for name in row.values}
    number = 0
    for section, known in _TRAINING.items():
        metrics = dict(known)
        if section == _NORMS:
            metrics |= _norms(logged)
        found = []
        for metric, (title, factor) in metrics.items():
            if metric in logged and not (metric in _RARELY_MOVE and _still(metric, tracks)):
                series = [
                    {"run": index, "values": [_values(track, metric, factor) for track in r.tracks]}
                    for index, r in enumerate(runs)
                ]
                chart = {"id": f"training-{number}", "title": title, "section": section}
                found.append(chart | {"series": series, "large": False, "levels": []})
                number += 1
        yield found


def _norms(logged: set[str]) -> dict[str, tuple[str, float]]:
    """Return the norms of the networks' parts, whatever they are called."""
    return {
        name: (f"{title}: {name.removeprefix(prefix)}", 1)
        for prefix, title in _PARTS.items()
        for name in sorted(logged)
        if name.startswith(prefix)
    }


def _values(track: Track, metric: str, factor: float) -> list[float | None]:
    values = (row.values.get(metric) for row in track.rows)
    return [None if value is None else _short(factor * value) for value in values]


def _still(metric: str, tracks: Sequence[Track]) -> bool:
    found = {row.values[metric] for track in tracks for row in track.rows if metric in row.values}
    return max(found) - min(found) <= 0.02 * max(map(abs, found))
