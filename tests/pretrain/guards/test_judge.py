"""Verdicts on updates: what is a spike, what is a NaN, and when it has been enough."""

import json
import math
import random

import pytest

from convbert.pretrain.guards.judge import Judge
from convbert.pretrain.run.data_order import DataOrder
from convbert.pretrain.settings.guards import GuardConfig


def fed(config: GuardConfig, count: int = 100) -> Judge:
    """Return a judge that has seen ``count`` ordinary losses around 5."""
    judge, noise = Judge(config), random.Random(0)
    for _ in range(count):
        assert judge.look(5 + noise.gauss(0, 0.05), 1.0) is None
    return judge


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (5.0, math.nan)])
def test_a_value_that_is_not_finite_is_left_out(loss: float, norm: float) -> None:
    judge = fed(GuardConfig())
    event = judge.look(loss, norm)
    assert event is not None
    assert (event.kind, event.action, event.applied) == ("nan", "skip", False)
    assert judge.left_out == 1


def test_a_spike_is_told_from_noise_and_from_a_falling_loss() -> None:
    judge = fed(GuardConfig(on_spike="skip"))
    assert judge.look(5.2, 1.0) is None  # four standard deviations
    assert judge.look(3.0, 1.0) is None
    event = judge.look(6.0, 1.0)
    assert event is not None
    assert (event.kind, event.action) == ("spike", "skip")
    assert event.score == pytest.approx(20, rel=0.4)
    assert judge.look(5.0, 1.0) is None


def test_no_spikes_before_the_window_is_half_full() -> None:
    judge = fed(GuardConfig(), count=63)
    assert judge.look(50.0, 1.0) is None


def test_limits_turn_a_skip_into_a_stop() -> None:
    judge = fed(GuardConfig(max_consecutive=2, max_events=3))
    actions = [judge.look(math.nan, 1.0).action for _ in range(2)]  # type: ignore[union-attr]
    assert actions == ["skip", "skip"]
    judge.look(5.0, 1.0)
    assert judge.look(math.nan, 1.0).action == "skip"  # type: ignore[union-attr]
    judge.look(5.0, 1.0)
    event = judge.look(math.nan, 1.0)
    assert event is not None
    assert event.action == "stop"
    assert "max_events=3" in event.reason


def test_overflows_of_the_loss_scale_are_normal_up_to_a_bound() -> None:
    judge = fed(GuardConfig(max_overflows=3, max_events=0))
    for _ in range(3):
        assert judge.overflowed(5.0, scaled=True).action == "skip"
    assert judge.overflowed(5.0, scaled=True).action == "stop"
    # Without scaling, or with a loss that is itself not finite, it is not the scale.
    assert fed(GuardConfig()).overflowed(5.0, scaled=False).kind == "nan"
    assert fed(GuardConfig()).overflowed(math.nan, scaled=True).kind == "nan"


def test_the_memory_survives_a_checkpoint() -> None:
    config = GuardConfig(on_spike="skip", max_events=1)
    judge = fed(config)
    judge.look(9.0, 1.0)
    again = Judge(config)
    again.load(json.loads(json.dumps(judge.state())))
    assert again.look(9.0, 1.0) == judge.look(9.0, 1.0)
    assert again.state() == judge.state()


def test_losses_of_another_phase_are_not_compared() -> None:
    judge = Judge(GuardConfig(on_spike="skip"))
    for phase, loss in ((0, 5.0), (900, 8.0)):
        judge.enter(phase)
        assert [judge.look(loss + i % 7 / 100, 1.0) for i in range(100)] == [None] * 100
    again = Judge(judge.config)
    again.load(json.loads(json.dumps(judge.state())))
    again.enter(900)
    assert again.look(12.0, 1.0) is not None
    again.enter(0)
    assert again.look(12.0, 1.0) is None


def test_spikes_that_were_only_recorded_count_towards_no_limit() -> None:
    judge = fed(GuardConfig(on_spike="record", max_events=1))
    for _ in range(3):
        judge.look(50.0, 1.0)
    changed = Judge(GuardConfig(on_spike="skip", max_events=1))
    changed.load(judge.state())
    actions = []
    for _ in range(2):
        actions.append(changed.look(90.0, 1.0).action)  # type: ignore[union-attr]
        changed.look(5.0, 1.0)
    assert actions == ["skip", "stop"]


def test_left_out_batches_are_read_by_no_update() -> None:
    order = DataOrder(8)
    order.leave_out(4, 6)
    order.leave_out(9, 10)
    order.leave_out(5, 7)
    read = [order.number(step) for step in range(8)]
    assert read == [0, 1, 2, 3, 7, 8, 10, 11]
    assert order.state() == [[32, 56], [72, 80]]
    assert [DataOrder(8, order.state()).number(s) for s in range(8)] == read
