"""The page of a study: what its tables show, and what differences and shares mean."""

import math
import statistics

import pytest

from convbert.pretrain.run.curve import Curve, Level, Point, Spread
from convbert.pretrain.study.design import load_design, plan_runs
from convbert.pretrain.study.page import render
from convbert.pretrain.study.results import Variant, difference, share_to_reach


def variant(name, scores, runs):
    spread = Spread(
        median=statistics.median(scores), low=min(scores), high=max(scores), scores=scores
    )
    before = Point(step=4, flops=5e8, spread=Spread.of([9.0]))
    curve = Curve(
        run=name,
        task="held_out/loss",
        metric="mlm",
        baseline=spread,
        points=[before, Point(step=9, flops=1e9, spread=spread)],
    )
    mine = [run for run in runs if run.variant == name]
    return Variant(name, mine, {"held_out/loss/mlm": curve}, 0.1)


def test_differences_are_paired_by_seed_and_the_page_says_what_they_support():
    design = load_design(None)
    runs = plan_runs(design)
    reference = variant("electra", [4.0, 4.2, 4.1], runs)
    better = variant("sdconv", [3.9, 4.09, 4.0], runs)  # 0.10, 0.11 and 0.10 below
    unclear = variant("conv", [4.3, 3.9, 4.2], runs)
    gap = difference(better, reference, "held_out/loss/mlm")
    assert gap.mean == pytest.approx(-0.31 / 3)
    # t(0.975, 2) = 4.3027 standard errors of 0.0033333
    assert (gap.low, gap.high) == pytest.approx(
        (gap.mean - 0.014342, gap.mean + 0.014342), abs=1e-6
    )
    page = render(design, [reference, better, unclear])
    assert "held_out/loss/mlm: better than the reference: sdconv; the others cannot be told" in page
    assert "| sdconv | -0.103 (-0.118 to -0.089) |" in page
    assert "4.000 (3.900 to 4.090)" in page
    assert "| sdconv | 0.99 |" in page
    assert "| conv | never |" in page
    assert "there are no results yet" in render(design, [])
    single = render(design, [variant("electra", [4.0], runs[:1])])
    assert "| 4.000 |" in single
    assert "4.000 (" not in single, "one run has no range"


def test_a_task_is_shown_by_the_metric_that_decides_it_beside_random_weights():
    design = load_design(None, seeds=1)
    runs = plan_runs(design)
    (name,) = design.finetune
    nothing = Level(name="most frequent tag", spread=Spread.of([0.1]))
    shown = [variant("electra", [4.0], runs), variant("sdconv", [3.0], runs)]
    for number, one in enumerate(shown):
        for metric, score in (("span_f1", 0.3), ("span_recall", 0.9)):
            points = [
                Point(step=4, flops=5e8, spread=Spread.of([math.nan])),  # of the last alone
                Point(step=9, flops=1e9, spread=Spread.of([score])),
            ]
            one.curves[f"{name}/{metric}"] = Curve(
                run=one.name,
                task=name,
                metric=metric,
                baseline=Spread.of([0.2 * number]),
                points=points,
                lexical=nothing,
            )
    page = render(design, shown)
    assert f"| held_out/loss/mlm | {name}/span_f1 |" in page
    assert "span_recall" not in page
    assert "most frequent tag, from the same labels, 0.100; random weights" in page
    assert "all variants, 0.100 (0.000 to 0.200)." in page
    assert "| variant | held_out/loss/mlm |\n" in page  # the table of shares


def test_the_share_of_the_budget_that_reaches_what_the_reference_ends_with():
    def made(values, name="held_out/loss/mlm"):
        points = [
            Point(step=n, flops=n * 1e9, spread=Spread.of([value]))
            for n, value in enumerate(values, 1)
        ]
        curve = Curve(run="x", task="", metric="", baseline=points[0].spread, points=points)
        return Variant("x", [], {name: curve}, 0.1)

    def share(values, goal):
        return share_to_reach(made(values), goal, "held_out/loss/mlm")

    assert share([6.0, 5.5, 5.0], 5.0) == 1
    assert share([6.0, 5.0, 4.0], 5.0) == pytest.approx(2 / 3)
    assert share([6.0, 5.0, 4.0], 5.5) == pytest.approx((1 / 2) ** 0.5 * 2 / 3)
    assert share([4.0, 4.5, 6.0], 5.0) == pytest.approx(1 / 3), "at most: it was better before"
    assert share([6.0, 5.5, 5.2], 5.0) is None
    assert share([math.nan, math.nan, 4.0], 5.0) == 1
    pairs = "pairs/swap"
    assert share_to_reach(made([0.5, 0.7, 0.9], pairs), 0.7, pairs) == pytest.approx(2 / 3)
