"""Sweeps of the learning rate: the grid, the file for an array of jobs, real short runs."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from convbert.cluster.sweep import read_sweep
from convbert.models.errors import UserError
from convbert.pretrain.cli import app
from convbert.pretrain.run.checkpoint_manifest import checkpoint_directory
from convbert.pretrain.study.sweep import Trial, advice, plan_sweep, score
from convbert.pretrain.tracking.metrics_log import MetricsLog
from convbert.pretrain.tracking.records import CurvePoint, StepRecord

SHORT = ["steps=8", "schedule.warmup_steps=1", "global_batch=4", "checkpoint.every=8"]


@pytest.fixture
def settings(tokenizer_dir: Path, shards_dir: Path) -> list[str]:
    return [f"data.manifest={shards_dir / 'manifest.json'}", f"data.tokenizer={tokenizer_dir}"]


def write_losses(trial: Trial, steps: int, losses: dict[int, float], held_out: Any = None) -> None:
    checkpoint_directory(trial.path / "checkpoints", steps).mkdir(parents=True)
    log = MetricsLog(trial.path / "metrics.jsonl")
    for step, loss in losses.items():
        log.append(StepRecord(step, 0.0, 0.0, {"loss/mlm": loss}))
    if held_out is not None:
        log.append(CurvePoint("held_out/loss/mlm", 0.0, 0.0, held_out, {"step": steps}))


def test_the_grid_scales_every_peak_and_is_a_sweep_for_an_array(tmp_path, settings):
    muon = [
        "optimizer.name=muon",
        "optimizer.learning_rate=2e-3",
        "optimizer.muon.learning_rate=0.03",
    ]
    config, trials = plan_sweep("tiny", [*settings, *SHORT, *muon], [2, 0.5], tmp_path / "s")
    assert config.steps == 8
    assert [t.path.name for t in trials] == ["x0.5", "x2"]
    rates = {"optimizer.learning_rate": 4e-3, "optimizer.muon.learning_rate": 0.06}
    assert trials[1].rates == pytest.approx(rates)
    runs = read_sweep(tmp_path / "s" / "sweep.yaml")
    recipe, own = runs["x2"]
    assert recipe == "tiny"
    assert "steps=8" in own
    assert "optimizer.muon.learning_rate=0.06" in own

    # A grid is extended; another configuration belongs somewhere else.
    _, more = plan_sweep("tiny", [*settings, *SHORT, *muon], [4], tmp_path / "s")
    assert [t.factor for t in more] == [0.5, 2, 4]
    before = (tmp_path / "s" / "sweep.yaml").read_bytes()
    with pytest.raises(UserError, match="a sweep of other settings"):
        plan_sweep("tiny", [*settings, *SHORT, *muon, "seed=3"], [1], tmp_path / "s")
    # Another base gives the same factors other rates: what was trained must not be shown as them.
    rates = [*muon, "optimizer.learning_rate=1.0"]
    with pytest.raises(UserError, match=r"x0.5 is a sweep of other settings .*0.001.*0.5"):
        plan_sweep("tiny", [*settings, *SHORT, *rates], [1], tmp_path / "s")
    assert (tmp_path / "s" / "sweep.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("schedule.warmup_steps=8", "warm-up takes all of steps=8"),
        ("phases=[{start: 4, learning_rate: 1e-4}]", "learning_rate of its own"),
        ("data.tokenizer=/nowhere", "/nowhere"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_written(
    tmp_path, settings, change, message
):
    with pytest.raises(UserError, match=message):
        plan_sweep("tiny", [*settings, *SHORT, change], [1], tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_held_out_loss_is_preferred_and_the_end_of_the_grid_is_said(tmp_path):
    trials = [
        Trial(f, {"optimizer.learning_rate": f * 1e-3}, tmp_path / f"x{f:g}") for f in (0.5, 1, 2)
    ]
    assert "nothing to choose" in advice(trials, 100)
    write_losses(trials[0], 100, {50: 9.0, 91: 6.0, 100: 5.0}, held_out=5.9)
    write_losses(trials[1], 100, {100: 1.0}, held_out=5.7)
    assert score(trials[2], 100) is None
    assert score(trials[0], 100).loss == 5.9
    assert "extends it" in advice(trials[:2], 100)
    write_losses(trials[2], 100, {100: 1.0}, held_out=math.nan)
    assert advice(trials, 100) == "lowest loss: optimizer.learning_rate=0.001"
    assert "extends" not in advice(trials, 100)

    other = Trial(1, {}, tmp_path / "training")
    write_losses(other, 100, {50: 9.0, 95: 6.0, 100: 5.0})
    assert score(other, 100).loss == 5.5
    assert not score(other, 100).held_out


def test_rates_are_checked():
    for text in ("1,two", "0", "nan", "-1", "", "1,1", "1e300"):
        ran = CliRunner().invoke(app, ["sweep", "tiny", "--rates", text])
        assert ran.exit_code == 2, text


def test_a_planned_sweep_is_a_table_for_programs_too(tmp_path, settings):
    command = ["sweep", "tiny", *settings, *SHORT, "--plan", "-o", str(tmp_path / "s")]
    ran = CliRunner().invoke(app, [*command, "--rates", "2,1", "--format", "csv"])
    assert ran.exit_code == 0, ran.output
    assert ran.stdout == "run,learning_rate\nx1,0.001\nx2,0.002\n"
    assert "convbert submit tiny --array" in ran.stderr


@pytest.mark.slow
@pytest.mark.integration
def test_real_runs_are_compared_and_one_that_diverges_does_not_end_the_others(
    tmp_path, settings, shards_dir
):
    command = [sys.executable, "-m", "convbert.pretrain.cli", "sweep", "tiny", *settings, *SHORT]
    command += [f"evaluation.held_out={shards_dir / 'manifest.json'}", "evaluation.show=[]"]
    command += ["optimizer.learning_rate=1e-3", "guards.on_nan=stop", "-o", str(tmp_path / "s")]
    command += ["--rates", "1,1e30,2", "--workers", "1"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "failed" in ran.stdout
    assert "lowest loss: optimizer.learning_rate=0.00" in ran.stdout
    loss = {}
    for name in ("x1", "x2"):
        lines = (tmp_path / "s" / name / "metrics.jsonl").read_text().splitlines()
        points = [json.loads(line) for line in lines if '"held_out/loss/mlm"' in line]
        loss[name] = points[-1]["value"]
        assert f"{loss[name]:.4f}" in ran.stdout
        config = yaml.safe_load((tmp_path / "s" / name / "config.yaml").read_text())
        assert config["optimizer"]["learning_rate"] == pytest.approx(float(name[1:]) * 1e-3)
    best = min(loss, key=loss.get)
    assert f"lowest loss: optimizer.learning_rate={float(best[1:]) * 1e-3:g}" in ran.stdout
