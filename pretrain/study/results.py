"""The results of a study: medians and ranges over seeds, and differences to the reference.

Measures are named as in ``metrics.jsonl`` and on the report page. A difference is paired by seed:
runs of one seed read the same sequences, masked alike, in the same order.
"""

import math
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy import stats

from convbert.data_pipeline.atomic import atomic_write
from convbert.pretrain.report.targets import falls
from convbert.pretrain.run import metric_names
from convbert.pretrain.run.curve import Curve, Level, Point, Spread
from convbert.pretrain.settings.recipes import dump, resolve
from convbert.pretrain.study.design import Design, StudyRun
from convbert.pretrain.study.measured import HELD_OUT_LOSS, Measure, Results
from convbert.pretrain.study.steps import result_tasks

DISCRIMINATOR_LOSS = metric_names.held_out(metric_names.LOSS_RTD)
"""It depends on what the variant's own generator samples, so it ranks nothing."""


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


def collect(results: Results, runs: Sequence[StudyRun]) -> list[Variant]:
    """Put the finished runs of a study together, variant by variant in the order of ``runs``."""
    names = list(dict.fromkeys(run.variant for run in runs))
    return [_variant(name, results, [r for r in runs if r.variant == name]) for name in names]


def _variant(name: str, results: Results, runs: list[StudyRun]) -> Variant:
    pairs = [(run, found) for run in runs if (found := results.get(run))]
    shared = [m for m in pairs[0][1].measures if all(m in found.measures for _, found in pairs)]
    seconds = statistics.median(found.step_seconds for _, found in pairs)
    curves = {
        m: _curve(name, m, runs[0], [found.measures[m] for _, found in pairs]) for m in shared
    }
    return Variant(name, [run for run, _ in pairs], curves, seconds)


def _curve(variant: str, name: str, run: StudyRun, measures: list[Measure]) -> Curve:
    """Put the measures of several seeds together; all have the same steps and FLOPs."""
    task, metric = name.rsplit("/", 1)
    origins = [m.baseline for m in measures if m.baseline is not None]
    same_words = all(m.lexical == measures[0].lexical for m in measures)
    return Curve(
        run=variant,
        task=task,
        metric=metric,
        baseline=Spread.of(origins or [math.nan]),  # what was only measured while training
        points=[
            Point(step=step, flops=run.papers_flops * step / run.steps, spread=Spread.of(at))
            for step, *at in zip(run.checkpoints, *(m.values for m in measures), strict=True)
        ],
        lexical=measures[0].lexical if same_words else None,
    )


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


def share_to_reach(variant: Variant, goal: float, measure: str) -> float | None:
    """Return the share of the budget at which the medians are first as good as ``goal``.

    Between two checkpoints they are taken as a straight line over log FLOPs. None where no
    checkpoint is as good; at the first one the share is an upper bound.
    """
    sign = -1.0 if falls(measure) else 1.0
    before: Point | None = None
    points = variant.curves[measure].points
    for point in points:
        value = point.spread.median
        if sign * value >= sign * goal:
            share = point.flops / points[-1].flops
            if before is None:
                return share
            part = (goal - before.spread.median) / (value - before.spread.median)
            return share * (before.flops / point.flops) ** (1 - part)
        before = point if point.spread.defined else before
    return None


def _by_seed(variant: Variant, measure: str) -> list[tuple[int, float]]:
    seeds = [run.seed for run in variant.runs]
    return list(zip(seeds, variant.final(measure).scores, strict=True))


def measures(design: Design, variants: Sequence[Variant]) -> list[str]:
    """List what the page's tables show, of what was measured: held-out text first, then tasks."""
    wanted = [HELD_OUT_LOSS, "held_out/generator/accuracy", DISCRIMINATOR_LOSS]
    wanted += [metric_names.pairs_measure("swap", "discriminator")]
    wanted += [
        metric_names.probe_measure(one.name, "dev", "accuracy")
        for task in design.probe
        for one in result_tasks(task)
    ]
    for task in design.finetune:
        for one in result_tasks(task, design.finetune_settings):
            # Without any named, the data told which one is measured.
            measured = [m for m in variants[0].curves if m.startswith(f"{one.name}/")]
            wanted += [f"{one.name}/{one.metric}"] if one.metrics else measured[:1]
    return [m for m in wanted if all(m in v.curves for v in variants)]


def compared_with(variants: Sequence[Variant], measure: str) -> tuple[Spread | None, Level | None]:
    """Return what random weights give, over all variants, and what no network gives."""
    starts = [v.curves[measure].baseline for v in variants]
    scores = [score for start in starts if start for score in start.scores]
    untrained = Spread.of(scores or [math.nan])
    return untrained if untrained.defined else None, variants[0].curves[measure].lexical


def write_variants(
    design: Design, root: Path, variants: Sequence[Variant], wanted: Sequence[str]
) -> list[Path]:
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
        config = resolve(design.recipe, variant.runs[0].overrides)
        with atomic_write(folder / "config.yaml") as file:
            file.write(dump(config, folder).encode())
        folders.append(folder)
    return folders
