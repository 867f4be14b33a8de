"""The results of a study: medians and ranges over seeds, and differences to the reference.

Measures are named as in ``metrics.jsonl`` and on the report page. A difference is paired by seed:
runs of one seed read the same sequences, masked alike, in the same order.
"""

import math
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scipy import stats

from convbert.data_pipeline.atomic import atomic_write
from convbert.pretrain.report.runs import ReportCurve, read_run
from convbert.pretrain.run import metric_names
from convbert.pretrain.run.curve import Curve, Point, Spread
from convbert.pretrain.study.design import Design, StudyRun
from convbert.pretrain.study.steps import result_names
from convbert.pretrain.tracking.metrics_log import FILE_NAME, read_records
from convbert.pretrain.tracking.records import StepRecord

_LOSS = metric_names.held_out(metric_names.LOSS_MLM)


@dataclass(frozen=True)
class Variant:
    """The finished runs of a variant, by seed, and their measures at equal shares of the budget."""

    name: str
    runs: list[StudyRun]
    curves: dict[str, Curve]
    step_seconds: float

    def final(self, measure: str) -> Spread:
        """Return a measure at the end of the budget."""
        return self.curves[measure].points[-1].spread


@dataclass(frozen=True)
class Difference:
    """Mean of the paired differences to the reference, with its 95 % interval.

    ``low`` and ``high`` come from Student's t, as if differences were normal: None for one seed.
    """

    mean: float
    low: float | None
    high: float | None


def collect(root: Path, runs: Sequence[StudyRun]) -> list[Variant]:
    """Read the finished runs of a study, variant by variant in the order of ``runs``."""
    names = list(dict.fromkeys(run.variant for run in runs))
    return [_variant(root, name, [r for r in runs if r.variant == name]) for name in names]


def _variant(root: Path, name: str, runs: list[StudyRun]) -> Variant:
    paths = [root / "runs" / run.name for run in runs]
    found = [_planned_curves(path, run) for path, run in zip(paths, runs, strict=True)]
    shared = [m for m in found[0] if all(m in curves for curves in found)]
    seconds = statistics.median(s for path in paths for s in _step_seconds(path))
    curves = {m: _curve(name, m, [curves[m] for curves in found]) for m in shared}
    return Variant(name, runs, curves, seconds)


def _planned_curves(path: Path, run: StudyRun) -> dict[str, ReportCurve]:
    """Read a run's curves without the checkpoints that an interruption left."""
    return {
        name: replace(curve, points=[p for p in curve.points if p.step in run.checkpoints])
        for name, curve in read_run(path).curves.items()
    }


def _curve(variant: str, measure: str, curves: list[ReportCurve]) -> Curve:
    """Put the curves of several seeds together; all have the same steps and FLOPs."""
    task, metric = measure.rsplit("/", 1)
    origins = [c.baseline.value for c in curves if c.baseline]
    same_words = all(c.lexical == curves[0].lexical for c in curves)
    return Curve(
        run=variant,
        task=task,
        metric=metric,
        baseline=Spread.of(origins),
        points=[
            Point(step=at[0].step or 0, flops=at[0].flops, spread=Spread.of([p.value for p in at]))
            for at in zip(*(c.points for c in curves), strict=True)
        ],
        lexical=curves[0].lexical if same_words else None,
    )


def _step_seconds(path: Path) -> list[float]:
    records = (r for r in read_records(path / FILE_NAME) if isinstance(r, StepRecord))
    return [
        r.values[metric_names.STEP_SECONDS]
        for r in records
        if metric_names.STEP_SECONDS in r.values
    ]


def difference(variant: Variant, reference: Variant, measure: str) -> Difference:
    """Compare two variants at the end of the budget, over the seeds that both have finished."""
    ours = dict(_by_seed(variant, measure))
    theirs = dict(_by_seed(reference, measure))
    gaps = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
    if not gaps:
        return Difference(math.nan, None, None)
    mean = statistics.mean(gaps)
    if len(gaps) < 2:
        return Difference(mean, None, None)
    error = statistics.stdev(gaps) / math.sqrt(len(gaps))
    half = float(stats.t.ppf(0.975, len(gaps) - 1)) * error
    return Difference(mean, mean - half, mean + half)


def _by_seed(variant: Variant, measure: str) -> list[tuple[int, float]]:
    seeds = [run.seed for run in variant.runs]
    return list(zip(seeds, variant.final(measure).scores, strict=True))


def measures(design: Design, variants: Sequence[Variant]) -> list[str]:
    """List what the page's tables show, of what was measured: held-out text first, then tasks."""
    wanted = [_LOSS, "held_out/generator/accuracy", "held_out/loss/rtd"]
    wanted += [metric_names.pairs_measure("swap", "discriminator")]
    wanted += [
        metric_names.probe_measure(name, "dev", "accuracy")
        for task in design.probe
        for name in result_names(task)
    ]
    names = [n for task in design.finetune for n in result_names(task, design.finetune_settings)]
    wanted += [f"{name}/accuracy" for name in names]
    return [m for m in wanted if all(m in v.curves for v in variants)]


def write_variants(root: Path, variants: Sequence[Variant], wanted: Sequence[str]) -> list[Path]:
    """Write a directory for each variant that ``convbert report`` reads like a run's.

    The range on the report page is then that of the pretraining seeds.
    """
    folders = []
    for variant in variants:
        folder = root / "variants" / variant.name
        shutil.rmtree(folder, ignore_errors=True)
        for measure in wanted:
            curve = variant.curves[measure]
            place = folder / "report" / measure.replace("/", "-")
            place.mkdir(parents=True)
            with atomic_write(place / "curve.json") as file:
                file.write(curve.model_dump_json(indent=2).encode() + b"\n")
        first = root / "runs" / variant.runs[0].name
        shutil.copyfile(first / "config.yaml", folder / "config.yaml")
        folders.append(folder)
    return folders
