"""Every stage, precision and optimizer trains the same model, and survives a checkpoint."""

from typing import Any

import pytest
from engines import run_cases

pytestmark = pytest.mark.integration

LAMB = {"name": "lamb"}
GDES = {"tie_embeddings": "gdes"}
MUON = {"name": "muon"}
CORRECTED = {"bias_correction": True}
# A small model, because CPUs emulate fp16; the scale overflows first and then grows and overflows.
SMALL = {"precision": "fp16", "width": 16, "rows": 2, "steps": 6}
SCALED = {"initial_scale_power": 12, "hysteresis": 1, "loss_scale_window": 2}

CASES: dict[str, dict[str, Any]] = {
    **{f"lamb {s}": {"deepspeed": s, "optimizer": LAMB} for s in ("zero0", "zero1", "zero3")},
    **{f"muon {s}": {"deepspeed": s, "optimizer": MUON} for s in ("zero0", "zero3")},
    "muon reloaded": {
        "deepspeed": "zero1",
        "optimizer": MUON,
        "reload": 2,
        "new_stage": "zero2-offload",
    },
    **{f"adamw {s}": {"deepspeed": s} for s in ("zero0", "zero2-offload")},
    "adamw zero3-offload, recomputing": {"deepspeed": "zero3-offload", "checkpointing": True},
    "corrected": {"deepspeed": "zero0", "optimizer": CORRECTED},
    "corrected, reloaded": {
        "deepspeed": "zero1-offload",
        "optimizer": CORRECTED,
        "reload": 2,
        "new_stage": "zero0",
    },
    "lamb reloaded": {
        "deepspeed": "zero2-offload",
        "optimizer": LAMB,
        "reload": 2,
        "new_stage": "zero1",
    },
    **{f"gdes {s}": {"deepspeed": s, "model": GDES} for s in ("zero0", "zero2", "zero3")},
    "gdes reloaded": {"deepspeed": "zero1", "model": GDES, "reload": 2, "new_stage": "zero3"},
    "gdes zero3, recomputing": {"deepspeed": "zero3", "model": GDES, "checkpointing": True},
    **{
        f"bf16 zero1{kind}": {
            "deepspeed": "zero1",
            "precision": "bf16",
            "width": 16,
            "accumulation": 2,
            "rows": 4,
            "graphs": bool(kind),
        }
        for kind in ("", ", graphs")
    },
    # DeepSpeed takes another optimizer in each of these; the parameters are rounded from fp32.
    **{
        f"muon bf16 {stage}": {
            "deepspeed": stage,
            "precision": "bf16",
            "width": 16,
            "optimizer": MUON,
        }
        for stage in ("zero0", "zero1", "zero3")
    },
    **{
        f"fp16 {stage}{kind}": {
            "deepspeed": stage,
            "fp16": SCALED,
            **SMALL,
            **more,
        }
        for stage in ("zero0", "zero1")
        for kind, more in (("", {}), (" reloaded", {"reload": 2}))
    },
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    cases = {name: {"rate": 2e-3} | case for name, case in CASES.items()}
    return run_cases(tmp_path_factory.mktemp("engines"), cases)


def losses(rows: list[dict[str, Any]]) -> list[float]:
    return [row["loss"] for row in rows]


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("lamb zero1", "lamb zero0"),
        ("lamb zero3", "lamb zero0"),
        ("adamw zero2-offload", "adamw zero0"),
        ("adamw zero3-offload, recomputing", "adamw zero0"),
        ("corrected, reloaded", "corrected"),
        ("lamb reloaded", "lamb zero0"),
        ("gdes zero2", "gdes zero0"),
        ("gdes zero3", "gdes zero0"),
        ("gdes zero3, recomputing", "gdes zero0"),
        ("gdes reloaded", "gdes zero0"),
        ("muon zero3", "muon zero0"),
        ("muon reloaded", "muon zero0"),
    ],
)
def test_stage_offloading_and_checkpoints_do_not_change_training(
    found: dict[str, Any], name: str, reference: str
) -> None:
    assert losses(found[name]) == pytest.approx(losses(found[reference]), rel=1e-5)
    for row, expected in zip(found[name], found[reference], strict=True):
        assert row["norm"] == pytest.approx(expected["norm"], rel=1e-4)
        assert row["norms"] == pytest.approx(expected["norms"], rel=1e-4)


def test_gradients_leave_the_memory_of_cuda_graphs_without_changing_training(
    found: dict[str, Any],
) -> None:
    plain, graphs = found["bf16 zero1"], found["bf16 zero1, graphs"]
    assert losses(graphs) == losses(plain)
    assert [row["norms"] for row in graphs] == [row["norms"] for row in plain]


def test_muon_trains_in_bf16_alike(found: dict[str, Any]) -> None:
    reference = losses(found["muon bf16 zero0"])
    for stage in ("zero1", "zero3"):
        assert losses(found[f"muon bf16 {stage}"]) == pytest.approx(reference, rel=2e-3)


def test_optimizers_are_not_the_same(found: dict[str, Any]) -> None:
    kept = ("lamb zero0", "adamw zero0", "corrected", "muon zero0")
    last = {name: losses(found[name])[-1] for name in kept}
    assert len({round(loss, 3) for loss in last.values()}) == len(kept)


def test_norms_of_the_parts_make_up_the_whole(found: dict[str, Any]) -> None:
    for row in found["lamb zero3"]:
        parts = {k: v for k, v in row["norms"].items() if k.startswith("gradient_norm/")}
        assert {k.split("/")[1] for k in parts} == {"discriminator", "embeddings", "generator"}
        assert sum(v * v for v in parts.values()) ** 0.5 == pytest.approx(row["norm"], rel=1e-4)
        assert all(v > 0 for v in row["norms"].values())


@pytest.mark.parametrize("stage", ["zero0", "zero1"])
def test_loss_scale_survives_a_checkpoint(found: dict[str, Any], stage: str) -> None:
    whole, reloaded = found[f"fp16 {stage}"], found[f"fp16 {stage} reloaded"]
    scales = [row["scale"] for row in whole]
    assert whole[-1]["skipped"] > 0
    assert whole[-1]["updates"] > 3
    assert whole[-1]["updates"] == len(whole) - whole[-1]["skipped"]
    assert len(set(scales[2:])) > 1, "the scale must still change after the checkpoint"
    assert [row["scale"] for row in reloaded] == scales
    assert [row["updates"] for row in reloaded] == [row["updates"] for row in whole]
    assert losses(reloaded) == losses(whole)
