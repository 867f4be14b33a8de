import itertools

import pytest
import torch

from convbert.models.errors import UserError
from convbert.pretrain.run.schedule import (
    Sampling,
    electra,
    final_sampling,
    learning_rate,
    sampling,
)
from convbert.pretrain.settings.objective import MaskingConfig
from convbert.pretrain.settings.optimizer import ScheduleConfig
from convbert.pretrain.settings.recipes import resolve


def test_electra_is_the_product_of_warmup_and_decay() -> None:
    total, warmup, peak = 1_000_000, 10_000, 5e-4
    assert electra(0, total, warmup, peak) == 0.0
    assert electra(warmup, total, warmup, peak) == pytest.approx(peak * (1 - warmup / total))
    assert electra(5_000, total, warmup, peak) == pytest.approx(peak * 0.995 * 0.5)
    assert electra(total, total, warmup, peak) == 0.0


@pytest.mark.parametrize("name", ["linear", "cosine", "constant", "wsd"])
def test_warmup_reaches_the_peak_and_never_exceeds_it(name: str) -> None:
    config = ScheduleConfig(name=name, warmup_steps=10)
    rates = [learning_rate(config, step, 100, 2.0) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9] == pytest.approx(2.0)
    assert max(rates) == pytest.approx(2.0)


def test_wsd_is_flat_until_its_decay() -> None:
    config = ScheduleConfig(name="wsd", warmup_steps=10, decay_fraction=0.2)
    rates = [learning_rate(config, step, 100, 1.0) for step in range(101)]
    assert set(rates[10:81]) == {1.0}
    assert all(a > b for a, b in itertools.pairwise(rates[80:]))
    assert rates[100] == 0.0


def test_linear_and_cosine_end_at_the_final_ratio() -> None:
    for name in ("linear", "cosine"):
        config = ScheduleConfig(name=name, warmup_steps=0, final_ratio=0.1)
        assert learning_rate(config, 50, 100, 1.0) == pytest.approx(0.55)
        assert learning_rate(config, 100, 100, 1.0) == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_decays_as_torch_does(name: str) -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=2.0)
    if name == "linear":
        reference = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=100)
    else:
        reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100, eta_min=0.2)
    config = ScheduleConfig(name=name, warmup_steps=0, final_ratio=0.1)
    for step in range(101):
        expected = optimizer.param_groups[0]["lr"]
        assert learning_rate(config, step, 100, 2.0) == pytest.approx(expected, rel=1e-9)
        optimizer.step()
        reference.step()


def test_mask_rate_and_temperature_move_in_straight_lines() -> None:
    config = MaskingConfig(
        mask_fraction=0.3,
        schedule={"final": 0.15},
        temperature=2.0,
        temperature_schedule={"final": 0.5, "total_steps": 50},
    )
    found = [sampling(config, step, 100) for step in (0, 25, 50, 100, 120)]
    assert [x.mask_fraction for x in found] == pytest.approx([0.3, 0.2625, 0.225, 0.15, 0.15])
    assert [x.temperature for x in found] == pytest.approx([2.0, 1.25, 0.5, 0.5, 0.5])
    assert final_sampling(config) == Sampling(0.15, 0.5)
    assert sampling(MaskingConfig(), 77, 100) == Sampling(0.15, 1.0)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("schedule={final: 1.5}", r"objective.masking: schedule.final=1.5 is no share"),
        ("schedule={final: 0}", r"schedule.final: .*above 0"),
        ("temperature_schedule={final: -1}", r"temperature_schedule.final: .*above 0"),
        ("schedule={name: cosine, final: 0.1}", r"schedule.name: .*linear"),
        ("schedule=linear", r"objective.masking.schedule"),
    ],
)
def test_a_schedule_of_masks_that_makes_no_sense_is_refused(setting: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        resolve("tiny", [f"objective.masking.{setting}"])
