"""Hours of a plan: from measurements that ship, from a rate that is given, or timed here."""

import re
from pathlib import Path

import pytest

from convbert.models.errors import UserError
from convbert.pretrain.cli.plan import plan
from convbert.pretrain.engine.gpus import GPUS
from convbert.pretrain.engine.precision import with_precision
from convbert.pretrain.planning.show import outline
from convbert.pretrain.planning.speeds import measured_rates, speed
from convbert.pretrain.settings.recipes import resolve

SLOWEST = ["compile=false"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def speeds(recipe: str, gpu: str, *overrides: str, gpus: int = 1):
    config = with_precision(resolve(recipe, list(overrides)), bfloat16=True)
    networks, timeline, _ = outline(recipe, config)
    return speed(config, networks, timeline.phases[0], gpus, gpu)


def test_what_was_measured_is_planned_as_measured():
    found = speeds("small", "h200")
    assert found.measured
    assert found.slow == found.fast == 798_557
    assert "small, 128 x 128 on one h200, CUDA graphs" in found.source
    for row in measured_rates():
        assert row.gpu in GPUS


def test_hours_of_a_measured_run_are_its_tokens_over_the_rate(capsys: pytest.CaptureFixture[str]):
    plan("small", [], 1, "h200")
    said = " ".join(capsys.readouterr().out.split())
    expected = 1_000_000 * 128 * 128 / 798_557 / 3600
    assert f"hours │ {expected:.1f}" in said
    assert "hours: measured: small, 128 x 128" in said


@pytest.mark.parametrize(
    ("recipe", "gpu", "overrides", "gpus"),
    [
        ("small", "h200", SLOWEST, 1),
        ("base", "a100", [], 8),
        ("large", "t4", [], 1),
        ("tiny", "l4", [], 1),
    ],
)
def test_everything_else_is_a_range_that_says_from_what(recipe, gpu, overrides, gpus):
    found = speeds(recipe, gpu, *overrides, gpus=gpus)
    assert not found.measured
    assert found.slow > 0
    assert found.source
    config = resolve(recipe, overrides)
    _, timeline, _ = outline(recipe, config)
    phase = timeline.phases[0]
    per_token = phase.flops["hardware"] / (config.global_batch * phase.seq_len)
    assert found.fast * per_token <= GPUS[gpu].peak, "no plan is faster than the hardware"


def test_without_graphs_small_takes_as_long_as_was_seen():
    """A million updates took 21 to 27 hours by the measured steps."""
    found = speeds("small", "h200", "cuda_graphs=false")
    assert 21 <= 1_000_000 * 128 * 128 / found.slow / 3600 <= 27
    assert found.measured


def test_a_share_of_the_peak_may_be_given(capsys: pytest.CaptureFixture[str]):
    plan("base", [], 8, "h100", mfu=0.5, price=2.0)
    said = " ".join(capsys.readouterr().out.split())
    assert "hours: an MFU of 50%, as given" in said
    assert "cost at 2 per GPU hour" in said


@pytest.mark.parametrize(
    "options", [{"processes": 2}, {"measure": True, "mfu": 0.4}, {"measure": True, "price": 2.0}]
)
def test_options_that_would_be_ignored_are_refused(options):
    with pytest.raises(UserError, match="leave"):
        plan("tiny", [], 1, "h100", **options)


def test_measuring_needs_shards():
    with pytest.raises(UserError, match="--measure trains a few updates, but there are no shards"):
        plan("tiny", [], 1, "h100", measure=True)


@pytest.mark.slow
def test_updates_are_timed_on_this_machine(
    capsys: pytest.CaptureFixture[str], shards_dir: Path, tokenizer_dir: Path, tmp_path: Path
):
    data = [f"data.manifest={shards_dir / 'manifest.json'}", f"data.tokenizer={tokenizer_dir}"]
    shape = "model.overrides={num_layers: 1, hidden_size: 32, embedding_size: 32, num_heads: 2}"
    plan("tiny", [*data, shape, "global_batch=8", "threads=1"], 1, "h100", measure=True)
    said = " ".join(capsys.readouterr().out.split())
    form = r"measured here: [\d.e-]+ s an update, median of 8, 1 processes, \d+ s to begin"
    assert re.search(f"hours: {form}; eager", said)
    assert not list(tmp_path.iterdir()), "nothing is left behind"
