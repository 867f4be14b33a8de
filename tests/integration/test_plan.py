"""The plan against what two processes really allocate, in every ZeRO stage."""

from typing import Any

import pytest
import torch
from engines import LENGTH, VOCABULARY, run_cases

from convbert.models.counts import parameter_counts
from convbert.models.presets import preset
from convbert.pretrain.objective.config import ObjectiveConfig
from convbert.pretrain.planning.activations import trace
from convbert.pretrain.planning.memory import memory
from convbert.pretrain.training.engine import load_deepspeed_config, resolve_deepspeed_config

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROWS, WIDTH = 4, 256
CASES = [(s, p) for p in ("fp32", "bf16") for s in ("zero0", "zero1", "zero2", "zero3")]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    shape = {"width": WIDTH, "rows": ROWS, "memory": True}
    cases = {f"{s} {p}": {"deepspeed": s, "precision": p, **shape} for s, p in CASES}
    return run_cases(tmp_path_factory.mktemp("memory"), cases)


@pytest.mark.parametrize(("stage", "precision"), CASES)
def test_peak_memory_is_planned_within_a_tenth(
    measured: dict[str, Any], stage: str, precision: str
) -> None:
    shape = {"num_layers": 1, "hidden_size": WIDTH, "embedding_size": WIDTH, "num_heads": 2}
    networks = preset("tiny", vocab_size=VOCABULARY, **shape)
    count = parameter_counts(networks).total
    found = measured[f"{stage} {precision}"]
    assert found["count"] == count
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    needed = trace(networks, ObjectiveConfig(), rows=ROWS, seq_len=LENGTH, dtype=dtype)
    config = resolve_deepspeed_config(
        load_deepspeed_config(stage),
        precision=precision,  # type: ignore[arg-type]
        micro_batch=ROWS,
        accumulation=1,
        clip=1.0,
    )
    assert memory(count, config, 2, needed).total == pytest.approx(found["peak"], rel=0.1)


def test_activations_are_planned_within_a_tenth() -> None:
    """Many rows on a small model: what the profiler saw allocated against the trace."""
    from torch.profiler import ProfilerActivity, profile

    from convbert.models.ops.convolution import use_backend
    from convbert.models.pretraining import build_model
    from convbert.pretrain.objective.losses import Normalisers, build_objective
    from convbert.pretrain.planning.activations import masked_rows

    networks = preset("tiny", vocab_size=VOCABULARY, num_layers=1)
    module = build_objective(build_model(networks), ObjectiveConfig())
    batch = masked_rows(64, 64, 9)
    one = torch.ones(())
    with use_backend("eager"), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as p:
        before = torch.empty(1)
        loss, _ = module(batch, Normalisers(one, one))
        loss.backward()
    del before
    events = [e for e in p.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    needed = trace(networks, ObjectiveConfig(), rows=64, seq_len=64, dtype=torch.float32)
    assert needed.peak_with_gradients == pytest.approx(peak, rel=0.1)
