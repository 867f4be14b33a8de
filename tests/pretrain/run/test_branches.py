"""Which branches a run can have, and that each repeats its trunk and decays from there."""

import itertools
from pathlib import Path

import pytest

from convbert.models.errors import DamagedError, UserError
from convbert.pretrain.run.branches import FILE_NAME, branch_config, parse_decay, read_origin
from convbert.pretrain.run.schedule import sampling
from convbert.pretrain.run.timeline import rate_of, stretches
from convbert.pretrain.settings.recipes import resolve
from convbert.pretrain.settings.run import RunConfig

FILE = Path("trunk/config.yaml")


def trunk(*settings: str) -> RunConfig:
    return resolve("tiny", ["steps=100", "schedule.warmup_steps=10", *settings])


def rates(config: RunConfig) -> list[float]:
    found: list[float] = []
    for change, end in stretches(config):
        found += map(rate_of(config, change, end), range(len(found), end))
    return found


@pytest.mark.parametrize(
    "settings",
    [
        ["schedule.name=constant"],
        ["schedule.name=constant", "schedule.total_steps=20", "schedule.final_ratio=0.1"],
        ["schedule.name=wsd", "schedule.decay_fraction=0.4"],
        ["schedule.name=wsd", "schedule.total_steps=1000"],
        ["schedule.name=constant", "phases=[{start: 30, manifest: longer}, {start: 90}]"],
        [
            "schedule.name=linear",
            "phases=[{start: 40, learning_rate: 2.0e-4,"
            "schedule: {name: constant, warmup_steps: 5}}]",
        ],
        [
            "phases=[{start: 40, schedule: {name: wsd, warmup_steps: 5, decay_fraction: 0.5}},"
            "{start: 90, manifest: longer}]",
        ],
    ],
)
@pytest.mark.parametrize("decay", [1, 7, 29])
def test_a_branch_repeats_its_trunk_and_decays_from_the_same_rate(
    settings: list[str], decay: int
) -> None:
    long = trunk(*settings)
    branch = branch_config(FILE, long, 60, decay)
    before, after = rates(long), rates(branch)
    assert len(after) == branch.steps == 60 + decay
    assert after[:60] == before[:60]
    assert after[60] == pytest.approx(before[60], rel=1e-12)
    assert all(a > b for a, b in itertools.pairwise(after[60:]))
    progress = (decay - 1) / decay
    end = next(s.schedule or branch.schedule for s, _ in reversed(stretches(branch))).final_ratio
    assert after[-1] == pytest.approx(before[60] * (end + (1 - end) * (1 - progress**0.5)))
    assert [s.data(long.data) for s, end in stretches(branch)] == [
        s.data(long.data) for s, end in stretches(long) if s.start < 60 + decay
    ]


@pytest.mark.parametrize(
    ("settings", "step", "message"),
    [
        (["schedule.name=electra"], 50, "schedule.name=electra changes the learning rate at every"),
        (["schedule.name=cosine"], 50, "schedule.name=cosine"),
        (["schedule.name=wsd"], 9, "step 9 lies in the warm-up of 10 updates from 0 on"),
        (["schedule.name=wsd"], 91, "own decay, which begins at 90; branch off there or before"),
        (
            ["schedule.name=wsd", "phases=[{start: 70, learning_rate: 1.0e-5}]"],
            60,
            "another learning rate begins at update 70, within the decay to 80; decay over fewer",
        ),
        (
            ["phases=[{start: 50, schedule: {name: constant, warmup_steps: 2}}, {start: 70}]"],
            60,
            "begins at update 70",
        ),
        (["phases=[{start: 50, schedule: {name: wsd, warmup_steps: 20}}]"], 60, "warm-up of 20"),
    ],
)
def test_what_has_no_stable_rate_is_refused(settings: list[str], step: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        branch_config(FILE, trunk(*settings), step, 20)


def test_masks_of_a_branch_go_on_as_those_of_its_trunk_would() -> None:
    falling = "objective.masking={mask_fraction: 0.3, schedule: {final: 0.15}}"
    long = trunk("schedule.name=constant", falling)
    branch = branch_config(FILE, long, 60, 10)
    for step in range(70):
        drawn = (sampling(c.objective.masking, step, c.steps) for c in (long, branch))
        assert len(set(drawn)) == 1, step
    assert branch_config(FILE, trunk("schedule.name=constant"), 60, 10).objective == (
        trunk().objective
    )


def test_a_branch_at_the_begin_of_its_trunks_decay_is_the_trunk() -> None:
    long = trunk("schedule.name=wsd", "schedule.decay_fraction=0.1")
    assert branch_config(FILE, long, 90, 10) == long


def test_the_decay_is_a_number_of_updates_or_a_share() -> None:
    assert parse_decay("1_000", 50) == 1000
    assert parse_decay("12.5%", 800) == 100
    for text in ("0", "-3", "0%", "0.1%", "1.5", "many", "%", "nan%", "inf%"):
        with pytest.raises(UserError, match=f"--decay {text}: at step 100 this is no update"):
            parse_decay(text, 100)


def test_a_run_without_an_origin_is_no_branch_and_a_torn_one_is_said(tmp_path: Path) -> None:
    assert read_origin(tmp_path) is None
    (tmp_path / FILE_NAME).write_text('{"trunk": "a"')
    with pytest.raises(DamagedError, match=r"branch.json: not the origin of a branch"):
        read_origin(tmp_path)
