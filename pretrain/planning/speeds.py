"""How long updates take on a GPU, carried over from what was measured.

``measured.yaml`` holds the measurements. The nearest one by width, tokens of a batch and length
says what share of the peak an update reaches. Two bounds follow from it: a wider network may reach
the same share, or one that grows with the width; another GPU may be as much slower as its peak
rate, or as its memory. What was measured itself has no range.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

from pydantic import Field

from convbert.models.architecture import PretrainingConfig
from convbert.models.flops import training_flops_per_sequence
from convbert.models.presets import preset
from convbert.models.schema import StrictModel, read_yaml, validate
from convbert.pretrain.engine.execution import for_gpu
from convbert.pretrain.engine.gpus import GPUS
from convbert.pretrain.run.timeline import Phase
from convbert.pretrain.settings.run import RunConfig

_VOCABULARY = 30_522
_MORE_GPUS = 0.8  # of the sum of their rates: assumed, several GPUs were not measured
_EAGER = 0.5  # of the rate of compiled networks, at worst: assumed, eager runs were not timed


class MeasuredRate(StrictModel):
    """One measurement of training on one GPU."""

    date: str
    gpu: str
    preset: str
    rows: int = Field(gt=0, description="of one GPU and update")
    length: int = Field(gt=0)
    precision: str
    compile: bool
    cuda_graphs: bool
    tokens_per_second: float = Field(gt=0)
    what: str
    command: str

    @property
    def networks(self) -> PretrainingConfig:
        """The networks that were timed."""
        return preset(self.preset, vocab_size=_VOCABULARY)

    @property
    def label(self) -> str:
        """Name the measurement for people."""
        how = "CUDA graphs" if self.cuda_graphs else "compiled" if self.compile else "eager"
        return (
            f"{self.preset}, {self.rows} x {self.length} on one {self.gpu}, {how}, {self.what}, "
            f"{self.date}"
        )


@dataclass(frozen=True)
class Speed:
    """Tokens a second of one GPU, between two bounds, and the measurement they come from."""

    slow: float
    fast: float
    source: str
    measured: bool


@lru_cache
def measured_rates() -> tuple[MeasuredRate, ...]:
    """Read the measurements that ship with the package."""
    path = Path(str(resources.files("convbert.pretrain.planning") / "measured.yaml"))
    return tuple(
        validate(MeasuredRate, {**row, "date": str(row["date"])}, path) for row in read_yaml(path)
    )


def _per_token(networks: PretrainingConfig, length: int) -> float:
    return training_flops_per_sequence(networks, length, "hardware") / length


def _distance(row: MeasuredRate, networks: PretrainingConfig, tokens: float, length: int) -> float:
    widths = networks.discriminator.hidden_size / row.networks.discriminator.hidden_size
    apart = abs(math.log2(widths)) + abs(math.log2(tokens / (row.rows * row.length))) / 2
    return apart + abs(math.log2(length / row.length)) / 2


def speed(
    config: RunConfig, networks: PretrainingConfig, phase: Phase, gpus: int, gpu_name: str
) -> Speed:
    """Return the tokens that one of ``gpus`` GPUs trains on in a second of ``phase``."""
    tokens = phase.global_batch * phase.seq_len / gpus
    config = for_gpu(config)
    alike = [r for r in measured_rates() if r.cuda_graphs == config.cuda_graphs]
    row = min(alike, key=lambda r: _distance(r, networks, tokens, phase.seq_len))
    apart = _distance(row, networks, tokens, phase.seq_len)
    exact = (
        not apart
        and gpus == 1
        and gpu_name.lower() == row.gpu
        and config.compile == row.compile
        and config.settled_precision == row.precision
        and networks.discriminator
        == row.networks.discriminator.model_copy(
            update={"vocab_size": networks.discriminator.vocab_size}
        )
    )
    if exact:
        return Speed(row.tokens_per_second, row.tokens_per_second, row.label, True)
    width = networks.discriminator.hidden_size / row.networks.discriminator.hidden_size
    same_share = row.tokens_per_second * _per_token(row.networks, row.length)
    same_share /= _per_token(networks, phase.seq_len)
    shares = (same_share, same_share * width)
    here, there = GPUS[gpu_name.lower()], GPUS[row.gpu]
    factors = (here.peak / there.peak, here.bandwidth / there.bandwidth)
    most = here.peak / _per_token(networks, phase.seq_len)  # what no program exceeds
    slow = min(shares) * min(factors) * (_MORE_GPUS if gpus > 1 else 1.0)
    slow *= 1.0 if config.compile == row.compile else _EAGER
    fast = min(max(shares) * max(factors), most)
    return Speed(min(slow, fast), fast, row.label, False)


def hours_of(
    config: RunConfig,
    networks: PretrainingConfig,
    phases: list[tuple[int, Phase]],
    gpus: int,
    gpu_name: str,
) -> tuple[float, float, list[Speed]]:
    """Return the fewest and most hours of a run whose phases have so many updates each."""
    speeds = [speed(config, networks, phase, gpus, gpu_name) for _, phase in phases]
    tokens = [updates * phase.global_batch * phase.seq_len for updates, phase in phases]
    fewest = sum(t / s.fast for t, s in zip(tokens, speeds, strict=True)) / gpus / 3600
    most = sum(t / s.slow for t, s in zip(tokens, speeds, strict=True)) / gpus / 3600
    return fewest, most, speeds
