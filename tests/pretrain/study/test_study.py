"""The study: equal budgets, a design that is checked, and two variants trained and compared."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path

import pytest
import typer
import yaml
from command_lines import check_arguments
from rich.console import Console
from typer.testing import CliRunner

from convbert.models.errors import DamagedError, UserError
from convbert.models.schema import validate
from convbert.pretrain.cli import app
from convbert.pretrain.cli.study import study
from convbert.pretrain.study.design import Design, load_design, plan_runs
from convbert.pretrain.study.driver import carry_out, with_pace
from convbert.pretrain.study.measured import Results
from convbert.pretrain.study.page import render, write_study_page
from convbert.pretrain.study.processes import Commands
from convbert.pretrain.study.results import collect
from convbert.pretrain.study.steps import data_steps, run_steps, write_sweep
from convbert.pretrain.study.tuning import compared_runs, known_runs, tried_rates
from convbert.pretrain.tracking.metrics_log import MetricsLog
from convbert.pretrain.tracking.records import CurvePoint, StepRecord

SHIPPED = load_design(None).variants


def test_runs_of_the_shipped_study_use_the_same_flops():
    design = load_design(None)
    runs, budget = plan_runs(design), design.flops
    assert len(runs) == 21
    assert [r.seed for r in runs[:7]] == [0] * 7  # all variants before the second seed
    for run in runs:
        one = run.hardware_flops / run.steps
        assert budget - one < run.hardware_flops <= budget, run.name
        assert run.settings["schedule.warmup_steps"] == round(0.05 * run.steps)
        # the last checkpoint is the end, and there are four
        assert (
            3 * run.settings["checkpoint.every"] < run.steps <= 4 * run.settings["checkpoint.every"]
        )
    steps = {r.variant: r.steps for r in runs}
    # what is cheaper gets more updates
    assert steps["bottleneck"] > steps["dynamic"] > steps["sdconv"] > steps["conv"]
    assert steps["sdconv-grouped"] > steps["sdconv"]


def test_half_the_budget_is_half_the_updates_and_a_sweep_names_every_run(tmp_path):
    shipped = load_design(None)
    design = load_design(None, flops=shipped.flops / 2, seeds=2)
    whole = {r.name: r for r in plan_runs(shipped)}
    for run in plan_runs(design):
        assert run.steps == pytest.approx(whole[run.name].steps / 2, abs=1)
    from convbert.cluster.sweep import read_sweep

    sweep = read_sweep(write_sweep(design, tmp_path, plan_runs(design)))
    assert list(sweep) == [r.name for r in plan_runs(design)]
    assert "seed=1" in sweep["conv-seed1"][1]
    manifest = (tmp_path / "shards" / "manifest.json").resolve()
    assert f"data.manifest={manifest}" in sweep["conv-seed1"][1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": "bert"}, "reference 'bert' is none of the variants"),
        ({"flops": 1e6}, "raise flops"),
        ({"flop": 1e6}, "flop: "),
        ({"variants": {"electra": {"steps": 3}}}, "steps follows from flops and seeds"),
        ({"seconds": 9.0}, "flops and seconds: give one of them"),
        ({"flops": math.inf}, "flops: give a finite number"),
        ({"flops": None, "seconds": 9.0, "pace": {"conv": 1.0}}, "pace: variant '.*' has none"),
        ({"flops": None, "seconds": 9.0, "pace": dict.fromkeys(SHIPPED, 3.0)}, "raise seconds"),
    ],
)
def test_a_design_that_makes_no_sense_is_refused(tmp_path, change, message):
    shipped = load_design(None).model_dump(mode="json")
    path = tmp_path / "design.yaml"
    path.write_text(yaml.safe_dump(shipped | change))
    with pytest.raises(UserError, match=message):
        plan_runs(load_design(path))


def test_the_study_of_recipes_gives_every_contender_the_same_grid_and_flops():
    shipped = resources.files("convbert.pretrain.study") / "recipes.yaml"
    design = load_design(Path(str(shipped)))
    runs = plan_runs(design)
    assert len(runs) == len(design.variants) * len(design.rate_factors)
    assert all(0.99 * design.flops < run.hardware_flops <= design.flops for run in runs)
    together = next(r for r in runs if r.variant == "together")
    assert together.settings["optimizer.name"] == "muon"


@pytest.mark.parametrize("name", ["recipes-time.yaml", "tiny-time.yaml"])
def test_a_study_at_equal_time_gets_updates_by_pace(name):
    design = load_design(Path(str(resources.files("convbert.pretrain.study") / name)))
    slow = next(variant for variant in design.variants if variant != design.reference)
    pace = dict.fromkeys(design.variants, 0.2) | {slow: 0.25}
    runs = plan_runs(design.model_copy(update={"pace": pace}))
    assert len(runs) == len(design.variants) * design.seeds
    updates = {run.variant: run.settings["steps"] for run in runs}
    assert updates[slow] == pytest.approx(0.8 * updates[design.reference], rel=0.01)


def put_data(root: Path, shards: Path) -> None:
    for name in ("shards", "held-out"):
        shutil.copytree(shards, root / name)


def test_rates_are_tuned_on_the_first_seed_alike_for_every_variant(tmp_path, shards_dir):
    put_data(tmp_path, shards_dir)
    shipped = load_design(None, seeds=3).model_dump(mode="json")
    variants = {
        "adamw": {"optimizer.learning_rate": 2e-3},
        "muon": {"optimizer.name": "muon", "optimizer.muon.learning_rate": 0.02},
    }
    tuned = {"variants": variants, "reference": "adamw", "rate_factors": [0.5, 1, 2]}
    path = tmp_path / "design.yaml"
    path.write_text(yaml.safe_dump(shipped | tuned | {"finetune": []}))
    design = load_design(path)
    first = known_runs(design, Results(design, tmp_path))
    assert [r.name for r in first] == [
        f"{name}-x{factor}-seed0" for name in variants for factor in ("0.5", "1", "2")
    ]
    assert first[-1].settings["optimizer.muon.learning_rate"] == pytest.approx(0.04)
    assert first[-1].settings["optimizer.learning_rate"] == pytest.approx(4e-3)
    assert "optimizer.muon.learning_rate" not in first[0].settings

    losses = {"adamw": {0.5: 5.0, 1: 4.0, 2: math.nan}, "muon": {0.5: 3.5, 1: 3.6, 2: 3.5}}
    for run in first[:5]:
        write_tuned(tmp_path, run, losses[run.variant][run.factor])
    # Muon has not tried all yet.
    assert [r.name for r in known_runs(design, Results(design, tmp_path)) if r.seed] == [
        "adamw-x1-seed1",
        "adamw-x1-seed2",
    ]
    write_tuned(tmp_path, first[5], losses["muon"][2])
    later = [r.name for r in known_runs(design, Results(design, tmp_path)) if r.seed]
    assert later == [f"{name}-seed{seed}" for seed in (1, 2) for name in ("adamw-x1", "muon-x0.5")]
    assert [r.name for r in compared_runs(design, Results(design, tmp_path))] == [
        "adamw-x1-seed0",
        "muon-x0.5-seed0",
    ]
    page = render(design, [], tried_rates(design, Results(design, tmp_path)))
    assert "3 learning rates: its own times" in page


def write_tuned(root, run, loss):
    path = root / "runs" / run.name
    (path / "checkpoints" / f"step-{run.steps:08d}").mkdir(parents=True)
    log = MetricsLog(path / "metrics.jsonl")
    log.append(CurvePoint("held_out/loss/mlm", 0.0, 1e6, loss, {"step": run.steps}))
    log.close()
    (path / "config.yaml").write_text("{}")


def write_run(root, run, steps):
    path = root / "runs" / run.name
    (path / "checkpoints" / f"step-{run.steps:08d}").mkdir(parents=True)
    (path / "config.yaml").write_text("{}")
    log = MetricsLog(path / "metrics.jsonl")
    for step in [0, *steps]:
        log.append(CurvePoint("held_out/loss/mlm", 0.0, 1e6 * step, 5.0 - run.seed, {"step": step}))
        if step:  # taken while training, which begins with an update
            log.append(CurvePoint("pairs/swap", 0.0, 1e6 * step, 0.75, {"step": step}))
    log.append(StepRecord(run.steps, 0.0, 1e6 * run.steps, {"speed/step_seconds": 0.1}))
    log.close()


@pytest.fixture
def two_runs(tmp_path, shards_dir):
    """A study of two finished runs, of which the second was stopped once in between."""
    design = load_design(None, seeds=2)
    variants = {"electra": design.variants["electra"]}
    design = design.model_copy(update={"finetune": [], "probe": [], "variants": variants})
    runs = plan_runs(design)
    steps = runs[0].checkpoints
    root = tmp_path / "study"
    put_data(root, shards_dir)
    write_run(root, runs[0], steps)
    write_run(root, runs[1], [*steps[:-1], steps[-1] - 5, steps[-1]])
    return design, root, runs


def test_a_checkpoint_that_an_interruption_left_is_no_point_of_the_curves(two_runs):
    design, root, runs = two_runs
    wanted = runs[0].checkpoints
    assert (len(wanted), wanted[-1]) == (design.checkpoints, runs[0].steps)
    (found,) = collect(Results(design, root), runs)
    assert [p.step for p in found.curves["held_out/loss/mlm"].points] == wanted
    assert found.final("held_out/loss/mlm").scores == [5.0, 4.0]


def test_results_alone_stand_for_runs_whose_directories_are_gone(two_runs):
    design, root, runs = two_runs
    results = Results(design, root)
    before = collect(results, runs)
    assert str(root) not in (root / "results.jsonl").read_text()  # it is good on any machine
    shutil.rmtree(root / "runs")
    assert repr(collect(Results(design, root), runs)) == repr(before)
    assert not before[0].curves["pairs/swap"].baseline.defined
    assert "2 of 2 runs." in write_study_page(design, root).read_text()
    assert "electra" in (root / "report.html").read_text()


def test_results_of_other_settings_data_or_kind_are_refused(two_runs, tmp_path):
    design, root, runs = two_runs
    for run in runs:
        assert Results(design, root).get(run)
    Results(design, root).require_data()
    longer = design.model_copy(update={"flops": 2 * design.flops})
    with pytest.raises(UserError, match="'electra-seed0' was measured with other settings; choose"):
        Results(longer, root).get(plan_runs(longer)[0])
    path = root / "held-out" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["shards"][0]["sha256"] = "0" * 64
    path.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"'electra-seed0' was measured on other data \(held-out "):
        Results(design, root).require_data()
    (root / "results.jsonl").write_text("{}\n")
    with pytest.raises(DamagedError, match=r"results.jsonl, line 1: not a run's result .*delete"):
        Results(design, root)


def test_a_run_that_diverged_has_no_last_value(two_runs):
    design, root, runs = two_runs
    log = root / "runs" / runs[0].name / "metrics.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        if line.get("extra", {}).get("step") == runs[0].steps:
            line["value"] = "NaN"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = Results(design, root).get(runs[0])
    assert result is not None
    assert result.loss == math.inf
    again = Results(design, root).get(runs[0])  # read from results.jsonl
    assert again is not None
    assert again.loss == math.inf
    (found,) = collect(Results(design, root), runs)
    assert math.isnan(found.final("held_out/loss/mlm").median)


def design_file(folder: Path) -> Path:
    design = {
        "recipe": "study",
        "flops": 2.5e10,
        "seeds": 1,
        "checkpoints": 1,
        "sequence_length": 64,
        "texts": ["text.jsonl"],
        "held_out": ["text.jsonl"],
        "vocab_size": 1000,
        "reference": "electra",
        "variants": {
            "electra": {"model.overrides.local_op": "attention"},
            "sdconv": {},
        },
    }
    path = folder / "design.yaml"
    path.write_text(yaml.safe_dump(design))
    return path


@pytest.mark.slow
@pytest.mark.integration
def test_an_interrupted_study_goes_on_and_ends_with_a_page(tmp_path, tokenizer_dir, shards_dir):
    out = tmp_path / "out"
    for name, place in (("tokenizer", tokenizer_dir), ("shards", shards_dir)):
        shutil.copytree(place, out / name)
    shutil.copytree(shards_dir, out / "held-out")
    command = [sys.executable, "-m", "convbert.pretrain.cli", "study"]
    command += [str(design_file(tmp_path)), "-o", str(out), "--workers", "1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    first = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    log = out / "runs" / "electra-seed0" / "metrics.jsonl"
    while not log.is_file():
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.1)
    first.send_signal(signal.SIGTERM)
    assert "the same command continues" in first.communicate(timeout=120)[0]
    assert first.returncode == 75
    second = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "shards build" not in second.stdout  # they were there
    page = (out / "out.md").read_text()
    assert "2 of 2 runs." in page
    assert "held_out/loss/mlm" in page
    for run in plan_runs(load_design(tmp_path / "design.yaml")):
        folder = out / "runs" / run.name
        records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        last = [r for r in records if "step" in r][-1]
        assert last["step"] == run.steps
        # the plan's arithmetic is what the trainer counted
        assert last["values"]["flops/hardware"] == pytest.approx(run.hardware_flops)
    assert "sdconv" in (out / "report.html").read_text()
    assert (out / "images" / "out.png").stat().st_size > 5000


@pytest.mark.slow
@pytest.mark.integration
def test_a_budget_of_seconds_buys_what_was_timed_once(
    tmp_path, tokenizer_dir, shards_dir, monkeypatch
):
    out = tmp_path / "out"
    put_data(out, shards_dir)
    shutil.copytree(tokenizer_dir, out / "tokenizer")
    content = yaml.safe_load(design_file(tmp_path).read_text())
    content["variants"]["sdconv"] = {"global_batch": 64}  # four times the work
    design = validate(Design, content | {"flops": None, "seconds": 60.0}, "design")
    monkeypatch.setattr("convbert.pretrain.study.pace.ROUNDS", 1)
    paced = with_pace(design, out, 1, Console())
    assert paced.pace["sdconv"] > 1.5 * paced.pace["electra"] > 0
    for run in plan_runs(paced):
        assert run.steps == int(60 / paced.pace[run.variant])
    assert with_pace(design, out, 1, Console()) == paced  # read, not timed again
    longer = design.model_copy(update={"checkpoints": 2})
    with pytest.raises(UserError, match="another study"):
        carry_out(with_pace(longer, out, 1, Console()), out, 1, Console())


def test_a_pace_is_not_taken_from_another_study(tmp_path):
    timed = load_design(None, seconds=60.0).model_copy(update={"pace": dict.fromkeys(SHIPPED, 1.0)})
    assert with_pace(timed, tmp_path, 1, Console()) == timed
    (tmp_path / "design.json").write_text(timed.model_dump_json(indent=1))
    known = with_pace(timed.model_copy(update={"pace": {}}), tmp_path, 1, Console())
    assert known == timed
    fewer = {"pace": {}, "variants": {"electra": SHIPPED["electra"]}}
    with pytest.raises(UserError, match="another study"):
        with_pace(timed.model_copy(update=fewer), tmp_path, 1, Console())


def test_seconds_cannot_be_planned_before_they_are_timed(tmp_path):
    study = ["study", "--seconds", "60", "-o", str(tmp_path / "study")]
    result = CliRunner().invoke(app, [*study, "--plan"])
    assert "--plan: how many updates 60 seconds buy is measured when the study starts" in str(
        result.exception
    )
    result = CliRunner().invoke(app, [*study, "--flops", "1e12"])
    assert "--flops 1e+12 --seconds 60: runs have one budget" in str(result.exception)
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(("own", "expected"), [(None, "3"), ("5", "5")])
def test_commands_share_the_cores(tmp_path, monkeypatch, own, expected):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if own:
        monkeypatch.setenv("OMP_NUM_THREADS", own)
    log = tmp_path / "log"
    show = [sys.executable, "-c", "import os; print(os.environ['OMP_NUM_THREADS'])"]
    assert Commands(Console(), threads=3)._finish(show, log) == 0
    assert log.read_text().strip() == expected


def test_commands_see_the_gpu_of_their_run_and_choose_deepspeeds_accelerator(tmp_path, monkeypatch):
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    study(output=tmp_path, plan=True)
    log = tmp_path / "log"
    show = "import os; print([os.getenv(k) for k in ('CUDA_VISIBLE_DEVICES', 'DS_ACCELERATOR')])"
    assert Commands(Console(), threads=1)._finish([sys.executable, "-c", show], log, "7") == 0
    assert log.read_text().strip() == "['7', None]"


def test_a_list_of_training_rows_is_done_when_its_last_number_is(tmp_path):
    design = load_design(None)
    sizes = {"finetune": ["trec"], "finetune_settings": ["train_rows=[100, all]"]}
    design = design.model_copy(update=sizes)
    (run, *_) = plan_runs(design)
    step = run_steps(design, tmp_path, run)[-1]
    for name, done in (("trec_100_rows", False), ("trec_all_rows", True)):
        folder = tmp_path / "runs" / run.name / "report" / name
        folder.mkdir(parents=True)
        (folder / "curve.html").touch()
        assert step.done() == done


def test_every_command_of_a_study_is_one_that_exists(tmp_path):
    design = load_design(None)
    root = typer.main.get_command(app)
    steps = [*data_steps(design, tmp_path), *run_steps(design, tmp_path, plan_runs(design)[0])]
    assert len(steps) == 8
    for step in steps:
        assert not step.done(), step.title
        check_arguments(root, step.arguments)


def test_the_plan_is_shown_and_trains_nothing(tmp_path):
    result = CliRunner().invoke(app, ["study", "--plan", "-o", str(tmp_path / "study")])
    assert result.exit_code == 0, result.output
    assert [p.name for p in (tmp_path / "study").iterdir()] == ["sweep.yaml"]


@pytest.mark.parametrize("by_time", [False, True])
def test_the_page_names_no_command_that_the_study_refuses(tmp_path, by_time):
    design = load_design(None)
    if by_time:
        pace = dict.fromkeys(SHIPPED, 1.0)
        design = load_design(None, seconds=60.0).model_copy(update={"pace": pace})
    write_study_page(design, tmp_path)
    page = (tmp_path / f"{tmp_path.name}.md").read_text()
    assert ("--plan" in page) is not by_time
    assert ("--seconds" in page) is not by_time
