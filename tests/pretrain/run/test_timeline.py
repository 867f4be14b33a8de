"""Phases: every update has the right shards, batch, rate and accumulated cost."""

from pathlib import Path

import pytest

from convbert.models.errors import UserError
from convbert.models.flops import training_flops_per_sequence
from convbert.pretrain.run.schedule import learning_rate
from convbert.pretrain.run.timeline import Timeline, derive
from convbert.pretrain.settings.differences import differences
from convbert.pretrain.settings.recipes import resolve

SHORT, LONG = Path("short.json"), Path("long.json")
BASE = ["steps=100", "global_batch=32", "schedule.warmup_steps=10", f"data.manifest={SHORT}"]


def timeline(*phases: str) -> Timeline:
    config = resolve("tiny", [*BASE, f"phases=[{', '.join(phases)}]"])
    lengths = [512 if p.manifest == str(LONG) else 128 for p in config.phases]
    return Timeline(derive(config, config.model.build(1000), [128, *lengths]))


def test_costs_add_up_across_the_boundary() -> None:
    line = timeline(f"{{start: 60, manifest: {LONG}, global_batch: 8}}")
    networks = resolve("tiny", BASE).model.build(1000)
    short, long = (training_flops_per_sequence(networks, n, "electra") for n in (128, 512))
    assert [(p.start, p.end, p.seq_len, p.global_batch) for p in line.phases] == [
        (0, 60, 128, 32),
        (60, 100, 512, 8),
    ]
    assert line.flops(60) == pytest.approx(60 * 32 * short)
    assert line.flops(61) == pytest.approx(60 * 32 * short + 8 * long)
    assert line.tokens(100) == 60 * 32 * 128 + 40 * 8 * 512
    assert line.positions(59) == (59 * 32, 60 * 32)
    assert line.positions(60) == (60 * 32, 60 * 32 + 8)
    # Batches that guards left out are made up for at the end.
    assert line.positions(103)[1] == 60 * 32 + 44 * 8


@pytest.mark.parametrize(
    ("masking", "slots"),
    [
        ("mask_fraction: 0.15", 19),
        ("mask_fraction: 0.3", 39),
        ("mask_fraction: 0.3, schedule: {final: 0.15}", 39),  # those that exist, used or not
        ("mask_fraction: 0.1, schedule: {final: 0.2}", 26),
    ],
)
def test_the_hardware_predicts_the_slots_that_exist(masking: str, slots: int) -> None:
    config = resolve("tiny", [*BASE, f"objective.masking={{{masking}}}"])
    networks = config.model.build(1000)
    line = Timeline(derive(config, networks, [128]))
    expected = training_flops_per_sequence(networks, 128, "hardware", masked_positions=slots)
    assert line.flops(1, "hardware") == 32 * expected
    assert line.flops(1) == 32 * training_flops_per_sequence(networks, 128, "electra")


def test_later_phases_draw_other_random_numbers() -> None:
    line = timeline(f"{{start: 60, manifest: {LONG}}}")
    assert line.phases[0].seed == 0
    assert line.phases[1].seed != 0


def test_schedule_goes_on_unless_the_phase_has_its_own() -> None:
    config = resolve("tiny", BASE)
    expected = [learning_rate(config.schedule, s, 100, 1e-3) for s in range(100)]
    line = timeline("{start: 60, global_batch: 8}")
    assert [line.learning_rate(s) for s in range(100)] == pytest.approx(expected)

    own = "{start: 60, learning_rate: 5.0e-4, schedule: {name: linear, warmup_steps: 4}}"
    line = timeline(own)
    assert [line.learning_rate(s) for s in range(60)] == pytest.approx(expected[:60])
    assert line.learning_rate(60) == pytest.approx(5e-4 / 4)
    assert line.learning_rate(63) == pytest.approx(5e-4)
    assert line.learning_rate(64 + 18) == pytest.approx(5e-4 / 2)


@pytest.mark.parametrize("starts", ["{start: 0}", "{start: 100}", "{start: 50}, {start: 50}"])
def test_phases_must_rise_inside_the_run(starts: str) -> None:
    with pytest.raises(UserError, match="phases start at"):
        resolve("tiny", [*BASE, f"phases=[{starts}]"])


def test_micro_batch_of_a_phase_may_change_on_resume_but_its_batch_not() -> None:
    first, finer, other = (
        resolve("tiny", [*BASE, f"phases=[{{start: 60, {settings}}}]"])
        for settings in ("global_batch: 8", "global_batch: 8, micro_batch: 2", "global_batch: 4")
    )
    assert differences(first, finer) == []
    assert differences(first, other) == ["phases.0.global_batch: 8 -> 4"]
