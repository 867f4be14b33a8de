"""Memory, micro-batch, time and cost of a run, before it is queued."""

import math
from dataclasses import dataclass

import torch

from convbert.models.architecture import EncoderConfig, PretrainingConfig
from convbert.models.counts import parameter_counts
from convbert.pretrain.engine.gpus import Gpu
from convbert.pretrain.engine.matrices import matrix_elements
from convbert.pretrain.planning.activations import Activations, trace
from convbert.pretrain.planning.memory import Memory, memory
from convbert.pretrain.run.timeline import Phase
from convbert.pretrain.settings.deepspeed import (
    load_deepspeed_config,
    resolve_deepspeed_config,
)
from convbert.pretrain.settings.run import RunConfig

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_USABLE = 0.9
_DIVISION = (  # of the batch, which a plan varies
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
)
_TRACED = (8, 64)
CONFIGURATIONS = ("zero0", "zero1", "zero2", "zero3", "zero3-offload")


@dataclass(frozen=True)
class ActivationEstimate:
    """Activations of a micro-batch of any size: a line through two sizes that were traced."""

    few: Activations
    many: Activations

    def of(self, rows: int) -> Activations:
        """Return the activations of a micro-batch of ``rows`` rows."""
        low, high = _TRACED

        def at(name: str) -> int:
            a, b = getattr(self.few, name), getattr(self.many, name)
            return round(max(0.0, a + (b - a) * (rows - low) / (high - low)))

        return Activations(at("kept"), at("peak"), at("peak_with_gradients"))


def _shallow(config: PretrainingConfig, layers: int, generator_layers: int) -> PretrainingConfig:
    def cut(encoder: EncoderConfig, kept: int) -> EncoderConfig:
        return encoder.model_copy(update={"num_layers": min(kept, encoder.num_layers)})

    generator = None if config.generator is None else cut(config.generator, generator_layers)
    return config.model_copy(
        update={"discriminator": cut(config.discriminator, layers), "generator": generator}
    )


def activations(
    config: RunConfig, networks: PretrainingConfig, seq_len: int, rows: int, *, fused: bool
) -> Activations:
    """Return the activations of the networks from traces of their first and first two layers.

    All layers of a network are alike, so each further one adds as much as the second one did.
    ``fused`` leaves out attention scores, as in ``trace``.
    """

    def traced(layers: int, generator_layers: int) -> Activations:
        return trace(
            _shallow(networks, layers, generator_layers),
            config.objective,
            rows=rows,
            seq_len=seq_len,
            dtype=_DTYPES[config.settled_precision],
            checkpointing=config.activation_checkpointing,
            fused_attention=fused,
        )

    one, two = traced(1, 1), traced(2, 2)
    depth = networks.discriminator.num_layers
    other = depth if networks.generator is None else networks.generator.num_layers
    kept = two.kept + (depth - 2) * (two.kept - one.kept)
    if other != depth:
        kept += (other - depth) * (two.kept - traced(2, 1).kept)
    return Activations(kept, kept + two.peak - two.kept, kept + two.peak_with_gradients - two.kept)


def estimate_activations(
    config: RunConfig, networks: PretrainingConfig, seq_len: int
) -> ActivationEstimate:
    """Return an estimate from a small and a large micro-batch, with fused attention."""
    few, many = (activations(config, networks, seq_len, rows, fused=True) for rows in _TRACED)
    return ActivationEstimate(few, many)


def memory_of(
    config: RunConfig,
    networks: PretrainingConfig,
    deepspeed: str,
    world: int,
    found: Activations,
    accumulation: int,
) -> Memory:
    """Return the memory of one GPU under the DeepSpeed configuration named ``deepspeed``."""
    template = load_deepspeed_config(deepspeed)
    resolved = resolve_deepspeed_config(
        {key: value for key, value in template.items() if key not in _DIVISION},
        precision=config.settled_precision,
        micro_batch=1,
        accumulation=accumulation,
        clip=config.optimizer.clip,
        place=deepspeed,
    )
    matrices = matrix_elements(networks) if config.optimizer.name == "muon" else 0
    return memory(parameter_counts(networks).total, resolved, world, found, matrices)


def _divisors(number: int) -> list[int]:
    """Return the divisors of a number, the largest first."""
    small = [n for n in range(1, math.isqrt(number) + 1) if number % n == 0]
    return sorted({*small, *(number // n for n in small)}, reverse=True)


def largest_micro_batch(
    config: RunConfig,
    networks: PretrainingConfig,
    phase: Phase,
    deepspeed: str,
    gpus: int,
    card: Gpu,
    needed: ActivationEstimate,
) -> int | None:
    """Return the largest divisor of a GPU's share that leaves a tenth of its memory free."""
    share = phase.global_batch // gpus
    for rows in _divisors(share):
        found = needed.of(rows)
        total = memory_of(config, networks, deepspeed, gpus, found, share // rows).total
        if total <= _USABLE * card.memory:
            return rows
    return None
