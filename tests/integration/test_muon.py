"""Muon trains the same model in every ZeRO stage, on one process and on two."""

from typing import Any

import pytest
from engines import run_cases

pytestmark = [pytest.mark.integration, pytest.mark.slow]

STAGES = ("zero0", "zero1", "zero2", "zero3", "zero1-offload", "zero3-offload")
UPDATES = 50
ROWS = 8
MUON = {"name": "muon", "muon": {"learning_rate": 0.01}, "learning_rate": 1e-3}
COMMON = {"dropout": 0.0, "optimizer": MUON, "rate": 1e-3, "steps": UPDATES}
# So small that two groups of parameters in stage 3 are updated one after the other.
PARTS = {"zero": {"sub_group_size": 20_000}}


def cases(processes: int) -> dict[str, dict[str, Any]]:
    common = {**COMMON, "rows": ROWS // processes}
    found = {stage: {"deepspeed": stage, **common} for stage in STAGES}
    found["zero3 in parts"] = {"deepspeed": "zero3", **common, **PARTS}
    for first, second in (("zero1", "zero3"), ("zero3", "zero1"), ("zero0", "zero2-offload")):
        change = {"reload": 20, "new_stage": second}
        found[f"{first}, then {second}"] = {"deepspeed": first, **common, **change}
    return found


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    rows = {
        f"{name} on {processes}": found
        for processes in (1, 2)
        for name, found in run_cases(
            tmp_path_factory.mktemp("muon"), cases(processes), processes
        ).items()
    }
    return {name: [row["loss"] for row in found] for name, found in rows.items()}


def test_stages_processes_and_checkpoints_do_not_change_training(
    losses: dict[str, list[float]],
) -> None:
    reference = losses["zero0 on 1"]
    assert len(reference) == UPDATES
    assert reference[-1] < reference[0] - 0.3
    for name, found in losses.items():
        assert found == pytest.approx(reference, rel=1e-5), name
