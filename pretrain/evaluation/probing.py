"""A linear probe on every checkpoint of a run: ``convbert probe`` and its file ``probe.json``."""

import logging
from collections.abc import Sequence
from pathlib import Path

from pydantic import ConfigDict

from convbert.data_pipeline.atomic import atomic_write
from convbert.models.pretraining import kept_encoder
from convbert.models.schema import StrictModel, parse
from convbert.pretrain.evaluation.evaluated_run import EvaluatedRun, PointValues
from convbert.pretrain.evaluation.linear_probe import Pooling, probe
from convbert.pretrain.evaluation.results import locked
from convbert.pretrain.finetune.kinds import prepare_all
from convbert.pretrain.finetune.remarks import remarks
from convbert.pretrain.finetune.sources import DataSource
from convbert.pretrain.finetune.task import TaskSpec
from convbert.pretrain.run.metric_names import probe_measure

log = logging.getLogger(__name__)


class ProbedPoint(StrictModel):
    """The measures of one starting point; ``"NaN"`` where its rows define none."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    start: str
    step: int
    flops: float
    values: dict[str, float]


class ProbeResults(StrictModel):
    """Contents of ``probe.json``: one task, by rising step."""

    pooling: Pooling
    points: list[ProbedPoint]


def probe_run(
    evaluated: EvaluatedRun, tasks: Sequence[TaskSpec], pooling: Pooling, source: DataSource
) -> dict[str, list[PointValues]]:
    """Fit a linear probe on every starting point for each task; log it and keep ``probe.json``."""
    prepared = prepare_all(tasks, evaluated.tokenizer, source)
    for remark in (r for data in prepared for r in remarks(data)):
        log.warning(remark)
    found: dict[str, list[PointValues]] = {data.task.name: [] for data in prepared}
    with evaluated.tracker() as tracker:
        for point, model in evaluated.models():
            for data in prepared:
                scores = probe(kept_encoder(model), data, pooling)
                name = data.task.name
                values = {
                    probe_measure(name, split, metric): value
                    for split, measured in scores.items()
                    for metric, value in measured.items()
                }
                found[name].append((point, values))
                for measure, value in values.items():
                    tracker.curve_point(point.flops, measure, value, step=point.step)
        for name, points in found.items():
            tracker.artifact(_write(evaluated.run.report / name, pooling, points))
    return found


def _write(folder: Path, pooling: Pooling, measured: list[PointValues]) -> Path:
    """Write ``probe.json``, in which other checkpoints with the same pooling stay."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "probe.json"
    points = {
        p.step: ProbedPoint(start=p.label, step=p.step, flops=p.flops, values=values)
        for p, values in measured
    }
    with locked(folder):
        if path.exists():
            what = {"what": "a file of a probe", "remedy": "move it away"}
            before = parse(ProbeResults, path.read_bytes(), path, **what)
            if before.pooling == pooling:
                points = {point.step: point for point in before.points} | points
        together = ProbeResults(pooling=pooling, points=[points[step] for step in sorted(points)])
        with atomic_write(path) as file:
            file.write(together.model_dump_json(indent=1).encode() + b"\n")
    return path
