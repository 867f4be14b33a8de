"""The report says what the runs' files say, and nothing else."""

import json
import math
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from small_runs import small_run

from convbert.models.errors import UserError
from convbert.pretrain.cli.pages import report
from convbert.pretrain.evaluation.publishing import publish_curve
from convbert.pretrain.report.page import write_report
from convbert.pretrain.report.runs import Measured, ReportCurve, read_run
from convbert.pretrain.report.tables import GLUE
from convbert.pretrain.report.targets import Reach, frontier, reach, round_targets
from convbert.pretrain.report.track import Track
from convbert.pretrain.run.curve import Curve, Point, Spread
from convbert.pretrain.tracking.tracker import open_tracker

RISING = (0.6, 0.65, 0.7, 0.75)


def curve(values, base=0.5, name="mood/accuracy"):
    points = [
        Measured(10.0**k, value, value, value, 1, k) for k, value in enumerate(values, start=3)
    ]
    baseline = None if base is None else Measured(0.0, base, base, base, 1, 0)
    return ReportCurve(name, points, baseline, decides=True)


def track():
    return Track([1e3, 1e6], [1.0, 4.0])


def test_a_value_is_reached_on_a_straight_line_over_log_flops():
    rising = curve([0.6, 0.7, 0.65, 0.8])
    found = reach(rising, 0.65, track())
    assert (found.kind, found.flops) == ("about", pytest.approx(10**3.5))
    assert found.hours == pytest.approx(1 + 3 * (10**3.5 - 1e3) / (1e6 - 1e3))
    assert reach(rising, 0.6, track()) == Reach("at most", 1e3, pytest.approx(1.0))
    assert reach(rising, 0.5, track()).kind == "baseline"
    assert reach(rising, 0.81, track()).kind == "never"
    falling = curve([3.0, 2.0], base=5.0, name="held_out/loss/mlm")
    assert reach(falling, 2.5, track()).flops == pytest.approx(10**3.5)


def test_hours_are_known_only_where_every_record_has_them():
    assert Track([1e3], None).hours_at(5.0) is None
    assert track().hours_at(500.0) == pytest.approx(0.5)
    assert track().hours_at(2e6) is None


def test_targets_are_round_and_within_what_was_measured():
    assert round_targets([curve([0.61, 0.74], base=0.52)]) == [0.55, 0.6, 0.65, 0.7]
    assert round_targets([curve([0.7], base=None)]) == [0.7]


def test_a_folder_of_runs_stands_for_those_in_it_that_have_begun(tmp_path):
    first = small_run(tmp_path / "runs" / "first", "off", None)
    for name in ("second", "dry"):
        shutil.copytree(first, tmp_path / "runs" / name)
    (tmp_path / "runs" / "dry" / "metrics.jsonl").unlink()
    (tmp_path / "runs" / "mlflow.db").touch()
    report([tmp_path / "runs"], tmp_path / "r.html")
    shown = embedded((tmp_path / "r.html").read_text())
    assert [run["name"] for run in shown["runs"]] == ["first", "second"]


def test_the_frontier_leaves_out_what_another_point_beats():
    points = [(1.0, 0.5), (2.0, 0.4), (2.0, 0.6), (3.0, 0.6), (4.0, 0.9), (1.0, 0.5)]
    assert frontier(points) == [True, False, True, False, True, True]
    assert frontier([(1.0, 2.0), (2.0, 3.0)], falling=True) == [True, False]


def embedded(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


def cells(page, table):
    body = re.search(rf'<table class="{table}">.*?<tbody>(.*?)</tbody>', page, re.DOTALL)[1]
    rows = re.findall(r"<tr.*?>(.*?)</tr>", body, re.DOTALL)
    return [re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row) for row in rows]


def test_two_runs_on_one_page(tmp_path):
    wild = "<b>wild</b> & co"
    runs = [
        small_run(tmp_path / "plain", "off", RISING),
        small_run(tmp_path / wild.replace("/", "_"), "off", (0.58, 0.6, 0.72, 0.8), 2e12),
        small_run(tmp_path / "young", "off", None, overrides=["seed=7"]),
    ]
    page = write_report(runs, tmp_path / "out" / "report.html").read_text()
    assert "<b>" not in page
    assert "&lt;b&gt;wild" in page
    charts = {chart["title"]: chart for chart in embedded(page)["charts"]}
    assert list(charts) == [
        "mood/accuracy", "training loss", "held_out/accuracy", "tokens per second",
        "seconds per update",
    ]  # fmt: skip
    mood = charts["mood/accuracy"]["series"]
    assert [point["y"] for point in mood[0]["points"]] == list(RISING)
    base = mood[0]["base"]
    assert (base["y"], base["low"], base["high"]) == pytest.approx((0.55, 0.54, 0.56))
    (level,) = charts["mood/accuracy"]["levels"]
    assert (level["name"], level["y"], level["runs"]) == (
        "TF-IDF + logistic regression",
        0.68,
        [0, 1],
    )
    assert charts["held_out/accuracy"]["levels"] == []
    # 800 updates of 5 s, in 80 records of which each stands for the one update it names
    assert mood[0]["points"][-1]["hours"] == pytest.approx(80 * 5 * 2 / 3600)
    assert len(charts["training loss"]["series"]) == 3
    assert "young has no accuracy curve" not in page  # held-out accuracy is one
    costs = {row[0]: row[1:] for row in cells(page, "costs")}
    assert costs["0.6"][0].startswith("≤ 1.00e+14")
    assert costs["0.6"][1].startswith("4.00e+14")
    assert costs["0.8"][0] == "not reached"
    assert ["seed", "0", "0", "7"] in cells(page, "differences")
    assert len(cells(page, "published")) == 14
    levels = cells(page, "pareto")[-3:]
    assert levels[0] == [
        "plain, without pretraining",
        "0",
        "0",
        "0",
        "0.5500",
        "0.5400–0.5600",
        "3",
        "",
    ]
    assert levels[2] == ["TF-IDF + logistic regression", "–", "0", "0", "0.6800", "–", "–", ""]
    best = [row[0] for row in cells(page, "pareto") if row[-1] == "◆"]
    assert best == ["plain"] * 4 + ["&lt;b&gt;wild&lt;_b&gt; &amp; co"]
    assert not re.search(r"(src|href)=[\"'](?!data:)", page)
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")


def test_runs_that_saw_other_rows_have_a_line_each(tmp_path):
    runs = [small_run(tmp_path / name, "off", RISING) for name in ("few", "many")]
    path = runs[1] / "report" / "mood" / "curve.json"
    content = json.loads(path.read_text())
    content["lexical"]["spread"] |= {"median": 0.7, "low": 0.69, "high": 0.72}
    path.write_text(json.dumps(content))
    with open(runs[1] / "metrics.jsonl", "a") as log:  # as probes log it
        extra = {"step": 100, "lexical": 0.71, "lexical_name": "TF-IDF"}
        line = {"curve": "probe/mood/accuracy", "time": 1.0, "flops": 1e14, "value": 0.9}
        log.write(json.dumps(line | {"extra": extra}) + "\n")
    page = write_report(runs, tmp_path / "r.html").read_text()
    charts = {chart["title"]: chart["levels"] for chart in embedded(page)["charts"]}
    few, many = charts["mood/accuracy"]
    assert (few["name"], few["y"]) == ("TF-IDF + logistic regression (few)", 0.68)
    assert (many["name"], many["low"], many["high"]) == (
        "TF-IDF + logistic regression (many)", 0.69, 0.72,
    )  # fmt: skip
    (probed,) = charts["probe/mood/accuracy"]
    assert (probed["name"], probed["y"], probed["runs"]) == ("TF-IDF", 0.71, [1])


def test_of_a_measure_logged_twice_the_later_counts(tmp_path):
    run = small_run(tmp_path / "run", "off", RISING)
    with open(run / "metrics.jsonl", "a") as log:
        line = {"curve": "held_out/accuracy", "time": 1.0, "flops": 1e14, "value": 0.9, "extra": {}}
        log.write(json.dumps(line) + "\n")
    points = read_run(run).curves["held_out/accuracy"].points
    assert [p.value for p in points] == pytest.approx([0.9, 0.15, 0.2, 0.3])


def test_what_is_not_a_number_is_left_out(tmp_path):
    run = small_run(tmp_path / "run", "off", RISING)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    spoilt = next(i for i, line in enumerate(lines) if '"step":' in line[:9])
    record = json.loads(lines[spoilt])
    record["values"]["loss/total"] = "nan"
    lines[spoilt] = json.dumps(record)
    curve = {"curve": "held_out/accuracy", "time": 1.0, "flops": 9e14, "value": "nan", "extra": {}}
    (run / "metrics.jsonl").write_text("\n".join([*lines, json.dumps(curve)]) + "\n")
    found = read_run(run)
    assert 9e14 not in [p.flops for p in found.curves["held_out/accuracy"].points]
    losses = [row.values.get("loss/total") for row in found.track.rows]
    assert losses[0] is None
    assert all(map(math.isfinite, losses[1:]))
    write_report([run], tmp_path / "r.html")


def test_an_undefined_measure_is_named_and_stops_no_page(tmp_path):
    run = small_run(tmp_path / "run", "off", None)
    tracker = open_tracker(
        run, enabled=True, experiment="e", run_name="run", tracking_uri="off",
        params={}, tags={}, resume_step=None,
    )  # fmt: skip
    nothing = Spread.of([math.nan, math.nan])
    points = [Point(step=s, flops=s * 1e12, spread=nothing) for s in (100, 200)]
    curve = Curve(run="run", task="flat", metric="pearson", baseline=nothing, points=points)
    publish_curve(curve, run / "report" / "flat", tracker)
    tracker.close("FINISHED")
    content = json.loads((run / "report" / "flat" / "curve.json").read_bytes(), parse_constant=int)
    assert content["baseline"]["median"] == "NaN"
    page = write_report([run], tmp_path / "r.html").read_text()
    assert "run: undefined on the rows that were measured: flat/pearson." in page
    assert "flat/pearson" not in [chart["title"] for chart in embedded(page)["charts"]]


def test_directories_that_cannot_be_shown(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    for path, reason in (
        (empty, "no config.yaml in it); check the path"),
        (empty / "none", "no such directory); check the path"),
    ):
        with pytest.raises(UserError) as refused:
            write_report([path], tmp_path / "r.html")
        assert str(refused.value) == f"{path}: not a run directory ({reason}"
    (empty / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(UserError, match=r"\(no config\.yaml in it\); name one in it: .*/empty$"):
        write_report([tmp_path], tmp_path / "r.html")
    with pytest.raises(UserError, match=r"not a run directory \(it is a file\)"):
        write_report([empty / "config.yaml"], tmp_path / "r.html")
    with pytest.raises(UserError, match=r"no curve in report/ and nothing in metrics\.jsonl"):
        write_report([empty], tmp_path / "r.html")
    run = small_run(tmp_path / "run", "off", RISING)
    settings = (run / "config.yaml").read_bytes()
    (run / "config.yaml").write_text("seed: [1\n")
    with pytest.raises(UserError, match="not valid YAML"):
        write_report([run], tmp_path / "r.html")
    (run / "config.yaml").write_bytes(settings)
    with pytest.raises(UserError, match="named twice"):
        write_report([run, tmp_path / "empty" / ".." / "run"], tmp_path / "r.html")
    (run / "report" / "mood" / "curve.json").write_text("{}")
    with pytest.raises(UserError, match=r"curve\.json: not a curve"):
        write_report([run], tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_only_losses_are_shown_before_any_evaluation(tmp_path):
    run = small_run(tmp_path / "fresh", "off", RISING)
    log = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(line for line in log if '"step":' in line[:9]))
    (run / "report" / "mood" / "curve.json").unlink()
    command = [sys.executable, "-m", "convbert.pretrain.cli", "report", str(run)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "report.html: open it in a browser\n"
    page = (tmp_path / "report.html").read_text()
    assert [chart["title"] for chart in embedded(page)["charts"]] == [
        "training loss", "tokens per second", "seconds per update",
    ]  # fmt: skip
    assert "fresh has no accuracy curve yet" in page


def test_the_published_rows_are_those_of_the_paper(tmp_path):
    run = small_run(tmp_path / "run", "off", RISING)
    page = write_report([run], tmp_path / "r.html").read_text()
    assert '<details class="fold" id="published">' in page  # nothing here to compare with them
    rows = {row[0]: row[1:] for row in cells(page, "published")}
    assert rows["ConvBERT-small"] == ["1.30e+18", "14M", "78.9", "84.1", "70.5", "◆"]
    assert rows["BERT-base"] == ["6.40e+19", "110M", "80.9", "88.4", "77.1", ""]
    assert rows["TinyBERT (distilled)"][0] == "≥ 6.40e+19"
    optimal = [name for name, row in rows.items() if row[-1] == "◆"]
    assert all(name.startswith("ConvBERT") for name in optimal)
    assert yaml.safe_load((run / "config.yaml").read_text())["steps"] == 800


def test_glue_averages_stand_below_the_published_ones(tmp_path):
    run = small_run(tmp_path / "run", "off", None)
    scores = dict(zip(GLUE, (0.5, 0.9, 0.8, 0.8, 0.9, 0.8, 0.85, 0.65), strict=True))
    with open(run / "metrics.jsonl", "a") as log:
        for flops in (1e14, 2e14):
            for name, value in (scores | {"squad2/best_f1": 0.5}).items():
                entry = {"curve": name, "time": 1.0, "flops": flops, "value": value}
                entry["extra"] = {"step": int(flops / 1e12)}
                log.write(json.dumps(entry) + "\n")
        entry |= {"curve": "cola/matthews", "flops": 4e14}  # not fine-tuned on the others yet
        log.write(json.dumps(entry) + "\n")
    page = write_report([run], tmp_path / "r.html").read_text()
    rows = [row for row in cells(page, "published") if "measured here" in row[0]]
    assert rows == [
        [f"run, step {step} (dev, measured here)", flops, "–", "77.5", "–", "50.0", ""]
        for step, flops in ((100, "1.00e+14"), (200, "2.00e+14"))
    ]
    assert '<details class="fold" id="published" open>' in page
    assert page.index("measured here") > page.rindex("ELECTRA-base, trained longer")
