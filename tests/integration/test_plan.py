"""The plan against what one and two processes really allocate, in every ZeRO stage."""

import functools
from typing import Any, Literal, NamedTuple

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
from convbert.pretrain.planning.activations import Activations, masked_rows, trace
from convbert.pretrain.planning.memory import memory
from convbert.pretrain.planning.plan import activations
from convbert.pretrain.settings.deepspeed import (
    load_deepspeed_config,
    resolve_deepspeed_config,
)
from convbert.pretrain.settings.objective import ObjectiveConfig
from convbert.pretrain.settings.recipes import resolve

pytestmark = [pytest.mark.integration, pytest.mark.slow]

STAGES = ("zero0", "zero1", "zero2", "zero3")
# Small buckets: at their usual size they would hide what everything else takes.
ZERO: dict[str, Any] = {"reduce_bucket_size": 200_000, "allgather_bucket_size": 200_000}


class Case(NamedTuple):
    """One measurement: parameters decide the peak of the wide network, rows that of the narrow."""

    stage: str
    precision: Literal["fp32", "bf16"] = "fp32"
    width: int = 256
    accumulation: int = 1
    optimizer: str = "adamw"

    @property
    def rows(self) -> int:
        return 24 if self.width == 256 else 96

    @property
    def name(self) -> str:
        return " ".join(map(str, self))


# In this order: an engine of stage 1 in bf16 is freed late, which a like one after it would show.
MATRIX = [Case(s, p, w) for w in (256, 128) for p in ("fp32", "bf16") for s in STAGES]
MORE = [Case(stage, accumulation=2) for stage in STAGES]
MORE += [Case(stage, optimizer="muon") for stage in ("zero0", "zero1", "zero3")]
OFFLOADED = [Case(f"zero{n}-offload", p) for n in (1, 2, 3) for p in ("fp32", "bf16")]
CASES = [(case, 1) for case in MATRIX] + [(case, 2) for case in [*MATRIX, *MORE, *OFFLOADED]]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """What each case allocates, by the number of processes and its name."""

    def run(processes: int) -> dict[str, Any]:
        cases = {
            case.name: {
                "deepspeed": case.stage,
                "precision": case.precision,
                "rows": case.accumulation * case.rows,
                "accumulation": case.accumulation,
                "optimizer": {"name": case.optimizer},
                "width": case.width,
                "memory": True,
                "zero": ZERO,
            }
            for case, wanted in CASES
            if wanted == processes
        }
        return run_cases(tmp_path_factory.mktemp("memory"), cases, processes)

    return {processes: run(processes) for processes in (1, 2)}


def _networks(width: int) -> PretrainingConfig:
    shape = {"num_layers": 1, "hidden_size": width, "embedding_size": width, "num_heads": 2}
    return preset("tiny", vocab_size=VOCABULARY, **shape)


@functools.cache
def _activations(width: int, rows: int, dtype: torch.dtype) -> Activations:
    return trace(_networks(width), ObjectiveConfig(), rows=rows, seq_len=LENGTH, dtype=dtype)


@pytest.mark.parametrize(("case", "processes"), CASES, ids=lambda v: getattr(v, "name", v))
def test_peak_memory_is_planned_within_a_tenth(
    measured: dict[int, dict[str, Any]], case: Case, processes: int
) -> None:
    networks = _networks(case.width)
    count = parameter_counts(networks).total
    found = measured[processes][case.name]
    assert found["count"] == count
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[case.precision]
    config = resolve_deepspeed_config(
        load_deepspeed_config(case.stage),
        precision=case.precision,
        micro_batch=case.rows,
        accumulation=case.accumulation,
        clip=1.0,
    )
    config["zero_optimization"] |= ZERO
    matrices = matrix_elements(networks) if case.optimizer == "muon" else 0
    needed = _activations(case.width, case.rows, dtype)
    plan = memory(count, config, processes, needed, matrices)
    # Here device and host are one. Where they are two, DeepSpeed has buffers of the largest
    # parameter on both, which is much in a network as small as this one.
    planned, bound = plan.total + plan.offloaded, 0.15 if case in OFFLOADED else 0.1
    assert (plan.offloaded > 0) == (case in OFFLOADED)
    print(f"\n{case.name}, {processes}: {planned / 1e6:.1f} MB, {found['peak'] / 1e6:.1f} measured")
    assert planned == pytest.approx(found["peak"], rel=bound)


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
