"""A linear probe on every checkpoint of a run: ``convbert probe`` and its file ``probe.json``."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import ConfigDict

from convbert.data_pipeline.atomic import atomic_write
from convbert.models.pretraining import kept_encoder
from convbert.models.schema import StrictModel, read_record
from convbert.pretrain.evaluation.evaluated_run import EvaluatedRun, PointValues
from convbert.pretrain.evaluation.finished import digest_of_rows
from convbert.pretrain.evaluation.lexical import measure_lexical
from convbert.pretrain.evaluation.linear_probe import Pooling, probe, require_probeable
from convbert.pretrain.evaluation.publishing import level_values
from convbert.pretrain.evaluation.results import locked
from convbert.pretrain.finetune.data import TaskData
from convbert.pretrain.finetune.kinds import prepare_all
from convbert.pretrain.finetune.remarks import remarks
from convbert.pretrain.finetune.sources import DataSource
from convbert.pretrain.finetune.task import TaskSpec
from convbert.pretrain.run.curve import Level
from convbert.pretrain.run.metric_names import probe_measure

log = logging.getLogger(__name__)

Value = TypeVar("Value")


class ProbedPoint(StrictModel):
    """The measures of one starting point; ``"NaN"`` where its rows define none."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    start: str
    step: int
    flops: float
    values: dict[str, float]


class ProbeResults(StrictModel):
    """Contents of ``probe.json``: one task, by rising step.

    ``data`` is a digest of the task and its rows, empty in older files.
    """

    pooling: Pooling
    data: str = ""
    points: list[ProbedPoint]


@dataclass
class Probed:
    """One task's points by rising step, and its words' baseline by the same names of measures."""

    points: list[PointValues] = field(default_factory=list)
    lexical: dict[str, Level] = field(default_factory=dict)


def probe_run(
    evaluated: EvaluatedRun,
    tasks: Sequence[TaskSpec],
    pooling: Pooling,
    source: DataSource,
    report: Callable[[float], None] = lambda share: None,
) -> dict[str, Probed]:
    """Fit a linear probe on every starting point for each task; log it and keep ``probe.json``.

    ``report`` is called with the share of a starting point's work that each task was.
    """
    prepared = prepare_all(tasks, evaluated.tokenizer, source)
    for data in prepared:
        require_probeable(evaluated.networks.discriminator, data)
    for remark in (r for data in prepared for r in remarks(data)):
        log.warning(remark)
    found = {data.task.name: Probed() for data in prepared}
    with evaluated.tracker() as tracker:
        for point, model in evaluated.models():
            for data in prepared:
                scores = probe(kept_encoder(model), data, pooling)
                report(1 / len(prepared))
                probed = found[data.task.name]
                if not probed.points:
                    folder = evaluated.run.report / data.task.name
                    probed.lexical = _lexical(data, folder, pooling)
                values = _named(data, scores, pooling)
                probed.points.append((point, values))
                for measure, value in values.items():
                    rest = level_values(probed.lexical[measure])
                    tracker.curve_point(point.flops, measure, value, step=point.step, **rest)
        for data in prepared:
            folder, points = evaluated.run.report / data.task.name, found[data.task.name].points
            tracker.artifact(_write(folder, pooling, digest_of_rows(data), points))
    return found


def _lexical(data: TaskData, folder: Path, pooling: Pooling) -> dict[str, Level]:
    results = measure_lexical(data, [0], folder)
    assert results is not None  # every task that can be probed has one
    return _named(
        data,
        {
            split: {metric: results.level(split, metric) for metric in spreads}
            for split, spreads in results.spreads.items()
        },
        pooling,
    )


def _named(
    data: TaskData, scores: Mapping[str, Mapping[str, Value]], pooling: Pooling
) -> dict[str, Value]:
    return {
        probe_measure(data.task.name, split, metric, pooling): value
        for split, measured in scores.items()
        for metric, value in measured.items()
    }


def _write(folder: Path, pooling: Pooling, data: str, measured: list[PointValues]) -> Path:
    """Write ``probe.json``, in which other checkpoints stay: of the same pooling, task and rows."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "probe.json"
    points = {
        p.step: ProbedPoint(start=p.label, step=p.step, flops=p.flops, values=values)
        for p, values in measured
    }
    with locked(folder):
        if path.exists():
            what = {"what": "a file of a probe", "remedy": "move it away"}
            before = read_record(ProbeResults, path, **what)
            if (before.pooling, before.data) == (pooling, data):
                points = {point.step: point for point in before.points} | points
        ordered = [points[step] for step in sorted(points)]
        together = ProbeResults(pooling=pooling, data=data, points=ordered)
        with atomic_write(path) as file:
            file.write(together.model_dump_json(indent=1).encode() + b"\n")
    return path
