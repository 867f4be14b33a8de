"""The plan against what two processes really allocate, in every ZeRO stage."""

from typing import Any

import pytest
import torch
from engines import LENGTH, VOCABULARY, run_cases
from torch.profiler import ProfilerActivity, profile

from convbert.models.architecture import PretrainingConfig
from convbert.models.counts import parameter_counts
from convbert.models.encoder import Encoder
from convbert.models.ops.convolution import use_backend
from convbert.models.presets import preset
from convbert.models.pretraining import build_model
from convbert.pretrain.engine.matrices import matrix_elements
from convbert.pretrain.objective.losses import Normalizers, build_objective
from convbert.pretrain.planning.activations import masked_rows, trace
from convbert.pretrain.planning.memory import memory
from convbert.pretrain.planning.plan import activations
from convbert.pretrain.settings.deepspeed import (
    load_deepspeed_config,
    resolve_deepspeed_config,
)
from convbert.pretrain.settings.objective import ObjectiveConfig
from convbert.pretrain.settings.recipes import resolve

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROWS, WIDTH = 24, 256
STAGES = ("zero0", "zero1", "zero2", "zero3")
# Small buckets: at their usual size they would hide what everything else takes.
ZERO: dict[str, Any] = {"reduce_bucket_size": 200_000, "allgather_bucket_size": 200_000}
CASES = [(stage, accumulation, "adamw") for stage in STAGES for accumulation in (1, 2)]
CASES += [(stage, 1, "muon") for stage in ("zero0", "zero1", "zero3")]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    same = {"width": WIDTH, "memory": True, "zero": ZERO}
    cases = {
        f"{stage} {n} {name}": {
            "deepspeed": stage,
            "rows": n * ROWS,
            "accumulation": n,
            "optimizer": {"name": name},
            **same,
        }
        for stage, n, name in CASES
    }
    return run_cases(tmp_path_factory.mktemp("memory"), cases)


@pytest.mark.parametrize(("stage", "accumulation", "optimizer"), CASES)
def test_peak_memory_is_planned_within_a_tenth(
    measured: dict[str, Any], stage: str, accumulation: int, optimizer: str
) -> None:
    shape = {"num_layers": 1, "hidden_size": WIDTH, "embedding_size": WIDTH, "num_heads": 2}
    networks = preset("tiny", vocab_size=VOCABULARY, **shape)
    count = parameter_counts(networks).total
    found = measured[f"{stage} {accumulation} {optimizer}"]
    assert found["count"] == count
    needed = trace(networks, ObjectiveConfig(), rows=ROWS, seq_len=LENGTH, dtype=torch.float32)
    config = resolve_deepspeed_config(
        load_deepspeed_config(stage),
        precision="fp32",
        micro_batch=ROWS,
        accumulation=accumulation,
        clip=1.0,
    )
    config["zero_optimization"] |= ZERO
    matrices = matrix_elements(networks) if optimizer == "muon" else 0
    planned = memory(count, config, 2, needed, matrices).total
    shown = f"{planned / 1e6:.1f} MB, {found['peak'] / 1e6:.1f} measured"
    print(f"\n{stage}, {accumulation}, {optimizer}: {shown}")
    assert planned == pytest.approx(found["peak"], rel=0.1)


@pytest.mark.parametrize(
    ("checkpointing", "generator"), [(False, ""), (True, ""), (False, "generator_depth: 0.6")]
)
def test_activations_of_a_deep_model_are_planned_within_a_tenth(
    checkpointing: bool, generator: str
) -> None:
    """Many rows on a small model: what the profiler saw allocated against the plan."""
    settings = [f"activation_checkpointing={checkpointing}", "precision=fp32"]
    config = resolve("tiny", [*settings, f"model.overrides={{num_layers: 5, {generator}}}"])
    networks = config.model.build(VOCABULARY)
    planned = activations(config, networks, seq_len=64, rows=64, fused=False).peak_with_gradients
    found = _allocated(networks, checkpointing)
    print(f"\nactivations: planned {planned / 1e6:.1f} MB, measured {found / 1e6:.1f} MB")
    assert planned == pytest.approx(found, rel=0.1)


def _allocated(networks: PretrainingConfig, checkpointing: bool) -> int:
    """Return the most that a forward and a backward pass allocate, gradients included."""
    model = build_model(networks)
    for module in model.modules():
        if isinstance(module, Encoder):
            module.gradient_checkpointing = checkpointing
    objective = ObjectiveConfig()
    batch = masked_rows(64, 64, objective.masking.slots(64))
    one = torch.ones(())
    with use_backend("eager"), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as p:
        loss, _ = build_objective(model, objective)(batch, Normalizers(one, one))
        loss.backward()
    events = [e for e in p.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak
