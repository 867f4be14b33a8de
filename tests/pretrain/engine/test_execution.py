"""A run that leaves compiling open gets what saves it time, says so, and keeps it."""

import logging
from pathlib import Path

import pytest
import torch

from convbert.models.presets import preset
from convbert.pretrain.engine import execution
from convbert.pretrain.engine.execution import Execution, Work, choose, for_gpu, settle
from convbert.pretrain.engine.precision import with_precision
from convbert.pretrain.settings.recipes import resolve

CPU = torch.device("cpu")
SMALL = preset("small")
RATE = 1e11
SHORT, LONG = Work(1e13, RATE, 2), Work(1e15, RATE, 2)  # about 2 minutes and 4 hours of updates


def configured(*overrides: str, recipe: str = "small"):
    return with_precision(resolve(recipe, ["precision=fp32", *overrides]), bfloat16=False)


@pytest.fixture
def heard(monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("convbert"), "propagate", True)
    caplog.set_level(logging.INFO, logger="convbert")
    return caplog


def test_a_cpu_compiles_what_is_long_enough_to_earn_it_back():
    config = configured()
    assert (config.compile, config.cuda_graphs) == ("auto", "auto")
    long, short = (choose(config, CPU, SMALL, work) for work in (LONG, SHORT))
    assert (long.compile, long.cuda_graphs) == (True, False)
    assert not short.compile
    row = execution.nearest(SMALL, "fp32")
    eager = LONG.flops / (RATE * row.share)
    assert f"{eager / 3600:.1f} h of updates" in long.reason
    assert f"takes {2 * row.seconds:.0f} s" in long.reason
    assert "measured at width 256" in long.reason


def test_what_is_configured_is_done():
    assert choose(configured("compile=true"), CPU, SMALL, SHORT).compile
    assert not choose(configured("compile=false"), CPU, SMALL, LONG).compile


def test_a_compiler_that_is_missing_is_done_without(monkeypatch, heard):
    monkeypatch.setenv("CXX", "/nowhere/g++")
    for override in ("compile=auto", "compile=true"):
        found = choose(configured(override), CPU, SMALL, LONG)
        assert not found.compile
        assert "no C++ compiler (/nowhere/g++)" in found.reason
    warnings = [r.getMessage() for r in heard.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1, "only what was asked for is missed"
    assert "compile=true: not compiled, there is no C++ compiler" in warnings[0]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["precision=bf16"], (True, True)),
        (["precision=bf16", "deepspeed=zero2"], (True, False)),
        (["precision=fp32"], (True, False)),
        (["precision=bf16", "cuda_graphs=false"], (True, False)),
        (["precision=bf16", "compile=false"], (False, False)),
    ],
)
def test_a_gpu_compiles_and_replays_graphs_where_it_can(overrides, expected):
    found = for_gpu(resolve("small", overrides))
    assert (found.compiles, found.replays_graphs) == expected


def test_a_run_that_goes_on_keeps_what_it_began_with(tmp_path: Path, alone, heard, monkeypatch):
    record = tmp_path / "execution.json"
    config = configured()
    assert settle(config, CPU, SMALL, LONG, record).compiles
    assert Execution.read(record).compile
    assert settle(config, CPU, SMALL, SHORT, record).compiles, "a short rest does not change it"
    assert "compiled: as the run began" in heard.text
    assert not settle(configured("compile=false"), CPU, SMALL, SHORT, record).compiles
    assert "now it goes on eager: compile=false" in heard.text
    assert not settle(config, CPU, SMALL, LONG, record).compiles, "the newest counts"


def test_a_run_goes_on_without_the_compiler_it_began_with(tmp_path, alone, heard, monkeypatch):
    record = tmp_path / "execution.json"
    assert settle(configured(), CPU, SMALL, LONG, record).compiles
    monkeypatch.setenv("CXX", "/nowhere/g++")
    assert not settle(configured(), CPU, SMALL, LONG, record).compiles
    assert "goes on eager: not compiled, there is no C++ compiler" in heard.text


def test_layers_that_differ_are_counted():
    config = resolve("quickstart")
    assert execution.kinds_of_layers(config.model.build(100)) == 1, "one encoder for both"
    assert execution.kinds_of_layers(SMALL) == 2
    assert execution.kinds_of_layers(preset("bert-small")) == 1
