"""Branches of one trunk are one curve on the page, with its cost counted in two ways."""

import json
import re

import pytest
from small_runs import FLOPS, HOURS, branch_run, logged_run

from convbert.pretrain.report.families import gather
from convbert.pretrain.report.page import write_report
from convbert.pretrain.report.runs import read_run


@pytest.fixture
def family(tmp_path):
    """A trunk and, not in order, its branches: undecayed at their beginning, decayed at the end."""
    return [
        logged_run(tmp_path / "long-0", range(1, 51), {20: 5.0, 40: 4.0}),
        branch_run(tmp_path / "late-1", 40, 10, {40: 4.0, 50: 3.0}),
        branch_run(tmp_path / "early-2", 20, 5, {20: 5.0, 25: 4.2}),
    ]


def cells(page):
    (body,) = re.findall(r'<table class="branches">.*?<tbody>(.*?)</tbody>', page, re.DOTALL)
    return [re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row) for row in re.findall("<tr>.*</tr>", body)]


def test_branches_are_one_curve_of_decayed_points(family, tmp_path):
    page = write_report(family, tmp_path / "report.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert [run["name"] for run in data["runs"]] == ["long-0", "long, 2 branches"]
    charts = {chart["title"]: chart["series"] for chart in data["charts"]}
    trunk, curve = charts["held_out/loss/mlm"]
    assert [(p["flops"], p["y"], p["step"]) for p in trunk["points"]] == [
        (2e13, 5, 20),
        (4e13, 4, 40),
    ]
    # In full: the trunk up to the branch and the decay.
    assert [(p["flops"], p["y"], p["step"]) for p in curve["points"]] == [
        (25e12, 4.2, 25),
        (50e12, 3.0, 50),
    ]
    assert [p["hours"] for p in curve["points"]] == pytest.approx([25 * HOURS, 50 * HOURS])
    assert [len(part) for part in charts["training loss"][1]["values"]] == [5, 10]
    assert data["runs"][1]["parts"][1]["hours"][0] == pytest.approx(41 * HOURS)


def test_the_trunk_counts_once_for_the_whole_curve(family, tmp_path):
    page = write_report(family, tmp_path / "report.html").read_text()
    assert cells(page) == [
        ["early-2", "20", "5", "2.50e+13 · 12.5 h", "2.50e+13 · 12.5 h",
         "2.50e+13 · 12.5 h", "4.2000"],
        # The stretch from 20 to 40 and the decay of 10; then 40 + 5 + 10.
        ["late-1", "40", "10", "5.00e+13 · 25 h", "3.00e+13 · 15 h",
         "5.50e+13 · 27.5 h", "3.0000"],
    ]  # fmt: skip
    assert "the whole curve cost 5.50e+13 FLOPs · 27.5 h" in page
    assert "would have cost 7.50e+13 FLOPs · 37.5 h" in page


def test_a_branch_at_work_is_no_point_and_one_without_hours_leaves_them_out(family, tmp_path):
    young = branch_run(tmp_path / "young-3", 30, 10, {30: 4.5}, done=4)
    silent = branch_run(tmp_path / "silent-4", 30, 5, {35: 3.9}, hours=False)
    (_, together), (costs,) = gather([read_run(path) for path in [*family, young, silent]])
    assert costs.unfinished == ["young-3"]
    assert [row.name for row in costs.rows] == ["early-2", "silent-4", "late-1"]
    assert [p.value for p in together.curves["held_out/loss/mlm"].points] == [4.2, 3.9, 3.0]
    assert [row.added.flops / FLOPS for row in costs.rows] == [25, 15, 20]
    assert costs.rows[-1].total.flops == 60 * FLOPS
    assert (costs.rows[0].full.hours, costs.rows[1].full.hours) == (12.5, None)
    assert costs.apart.hours is None
    page = write_report([*family, young, silent], tmp_path / "report.html").read_text()
    assert "Not at their end yet, so no points: young-3." in page


def test_two_branches_of_one_checkpoint_share_all_of_the_trunk(family, tmp_path):
    longer = branch_run(tmp_path / "longer-5", 20, 15, {35: 4.0})
    _, (costs,) = gather([read_run(path) for path in (family[2], longer)])
    assert [row.added.flops / FLOPS for row in costs.rows] == [25, 15]
    assert costs.rows[-1].total.flops == 40 * FLOPS


def test_a_lone_branch_and_branches_of_others_stay_apart(family, tmp_path):
    other = branch_run(tmp_path / "other-6", 20, 5, {25: 4.0}, trunk="another")
    runs = [read_run(path) for path in (family[1], other)]
    assert gather(runs) == (runs, [])
    # Alone on its page, with its undecayed start.
    (curve,) = runs[1].curves.values()
    assert [p.step for p in curve.points] == [25]
    assert runs[0].track.hours_at(50 * FLOPS) == pytest.approx(50 * HOURS)
