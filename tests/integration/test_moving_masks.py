"""A mask rate and a temperature that move over a run: on any processes and after any stop."""

import json
from pathlib import Path

import pytest
from forked import Zygote, kill_after

from convbert.models.errors import UserError

pytestmark = pytest.mark.integration

STEPS = 20
# High temperatures, so that no sample falls on the rounding of the logits (see test_stages.py).
MASKING = (
    f"steps={STEPS}",
    "micro_batch=2",  # dropout is drawn for each micro-batch
    "objective.masking.mask_fraction=0.3",
    "objective.masking.schedule={final: 0.15}",
    "objective.masking.temperature=200",
    "objective.masking.temperature_schedule={final: 100}",
)


def values(run: Path, name: str) -> list[float]:
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [r["values"][name] for r in records if "step" in r]


@pytest.fixture(scope="module")
def alone(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run on one process."""
    run = tmp_path_factory.mktemp("alone") / "run"
    zygote.finish(run, *MASKING, "deepspeed=zero0", processes=1)
    return run


def test_rates_are_as_stated_and_the_same_on_four_processes(
    zygote: Zygote, read_losses, alone: Path, tmp_path: Path
) -> None:
    rates, tokens = values(alone, "generator/masked_rate"), 8 * 64
    assert len(rates) == STEPS
    for step in range(0, STEPS, 2):
        stated = 0.3 - 0.15 * step / STEPS
        assert abs(rates[step] - stated) < 1.96 * (stated * (1 - stated) / tokens) ** 0.5
    assert values(alone, "generator/temperature") == [200 - 5 * step for step in range(STEPS)]

    zygote.finish(tmp_path, *MASKING, "deepspeed=zero1", processes=4)
    assert values(tmp_path, "generator/masked_rate") == rates
    expected = read_losses(alone)
    for step, losses in read_losses(tmp_path).items():
        assert losses == pytest.approx(expected[step], rel=1e-5), step


def test_a_killed_run_goes_on_with_the_rates_it_would_have_had(
    zygote: Zygote, read_losses, tmp_path: Path
) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    zygote.finish(whole, *MASKING)
    kill_after(zygote, run, 8, *MASKING)
    zygote.finish(run, *MASKING)
    assert read_losses(run) == read_losses(whole)
    assert values(run, "generator/masked_rate") == values(whole, "generator/masked_rate")


def test_a_longer_run_that_would_have_masked_otherwise_is_refused_with_what_works(
    zygote: Zygote, alone: Path
) -> None:
    longer = (*MASKING, "deepspeed=zero0", "steps=30", f"schedule.total_steps={STEPS}")
    with pytest.raises(UserError, match=r"update 2 would have had a mask rate of 0.295 ") as no:
        zygote.start(alone, *longer, processes=1)
    pins = (
        f"objective.masking.schedule.total_steps={STEPS}",
        f"objective.masking.temperature_schedule.total_steps={STEPS}",
    )
    assert all(pin in str(no.value) for pin in pins)
    zygote.finish(alone, *longer, *pins, processes=1)
    rates = values(alone, "generator/masked_rate")
    assert len(rates) == 30
    assert sum(rates[STEPS:]) / 10 == pytest.approx(0.15, abs=0.005)
