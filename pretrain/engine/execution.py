"""Choose whether to compile and to replay CUDA graphs where the configuration says ``auto``."""

import json
import logging
import math
import os
import shutil
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.distributed as dist
from pydantic import Field, TypeAdapter, ValidationError

from convbert.data_pipeline.atomic import atomic_write
from convbert.models.architecture import PretrainingConfig
from convbert.models.schema import StrictModel, read_yaml, validate
from convbert.pretrain.engine.collectives import broadcast_from_first
from convbert.pretrain.run.timeline import Timeline
from convbert.pretrain.settings.deepspeed import load_deepspeed_config
from convbert.pretrain.settings.run import RunConfig

_MARGIN = 2.0  # the time that compiling must save, in times of what it takes

log = logging.getLogger(__name__)


class CompiledGain(StrictModel):
    """One measurement on a CPU of a step, eager and with compiled layers."""

    date: str
    machine: str
    width: int = Field(gt=0)
    precision: str
    share: float = Field(gt=0, description="of the rate of a large product that eager reaches")
    ratio: float = Field(gt=0, description="time of the compiled step over that of the eager one")
    seconds: float = Field(gt=0, description="of compiling one kind of layer, nothing in a cache")
    command: str


@dataclass(frozen=True)
class Work:
    """What is left of a run for one process: ``flops`` to compute at ``rate`` FLOP/s at best.

    ``kinds`` counts the layers that differ in shape, which are compiled one by one.
    """

    flops: float
    rate: float
    kinds: int


def work_left(
    config: RunConfig,
    networks: PretrainingConfig,
    timeline: Timeline,
    done: int,
    world: int,
    rate: float,
) -> Work:
    """Return the work of a run of ``world`` processes after ``done`` updates."""
    flops = timeline.flops(config.steps, "hardware") - timeline.flops(done, "hardware")
    shapes = {(p.seq_len, p.micro_batch or p.global_batch) for p in timeline.phases if p.end > done}
    return Work(flops / world, rate, kinds_of_layers(networks) * len(shapes))


@dataclass(frozen=True)
class Execution:
    """What was chosen for a kind of device, and why."""

    device: str
    compile: bool
    cuda_graphs: bool
    reason: str

    @classmethod
    def read(cls, path: Path) -> "Execution | None":
        """Return what a run recorded when it was first started; None to decide it again."""
        try:
            return TypeAdapter(cls).validate_json(path.read_bytes())
        except (OSError, ValidationError):  # none yet, or damaged
            return None

    def write(self, path: Path) -> None:
        """Record it for when the run goes on."""
        with atomic_write(path) as file:
            file.write((json.dumps(asdict(self), indent=1) + "\n").encode())

    @property
    def shown(self) -> str:
        """The line of the log."""
        how = "compiled" if self.compile else "eager"
        return f"{how}{', CUDA graphs' if self.cuda_graphs else ''}: {self.reason}"


@lru_cache
def measured_gains() -> tuple[CompiledGain, ...]:
    """Read the measurements that ship with the package."""
    path = Path(str(resources.files("convbert.pretrain.engine") / "compiled.yaml"))
    return tuple(
        validate(CompiledGain, {**row, "date": str(row["date"])}, path) for row in read_yaml(path)
    )


def kinds_of_layers(networks: PretrainingConfig) -> int:
    """Return how many kinds of layers are compiled for the networks."""
    generator = networks.generator
    layers = {networks.discriminator.model_copy(update={"num_layers": 1, "vocab_size": 1})}
    if generator is not None:
        layers.add(generator.model_copy(update={"num_layers": 1, "vocab_size": 1}))
    return len(layers)


def settle(
    config: RunConfig, device: torch.device, networks: PretrainingConfig, work: Work, record: Path
) -> RunConfig:
    """Replace ``auto`` by what is fastest, and say so; every process has to call this.

    Process 0 decides for all and keeps the decision in ``record``: a run that goes on keeps it on
    the same kind of device. What cannot be compiled here runs eager, with a warning.
    """
    chosen = None
    if dist.get_rank() == 0:
        chosen = _resumed(config, Execution.read(record), choose(config, device, networks, work))
        chosen.write(record)
        log.info("%s", chosen.shown)
    chosen = broadcast_from_first(chosen)
    return config.model_copy(update={"compile": chosen.compile, "cuda_graphs": chosen.cuda_graphs})


def choose(
    config: RunConfig, device: torch.device, networks: PretrainingConfig, work: Work
) -> Execution:
    """Return what a run that starts now on this kind of device does."""
    kind, graphs = device.type, config.cuda_graphs is True
    if config.compile is False:
        return Execution(kind, False, graphs, "compile=false")
    if problem := no_compiler(device):
        if config.compile is True:
            log.warning("compile=true: %s; training goes on without", problem)
        return Execution(kind, False, graphs, problem)
    if kind == "cuda":
        on_gpu = for_gpu(config)
        return Execution(kind, on_gpu.compiles, on_gpu.replays_graphs, "on a GPU")
    if config.compile is True or graphs:
        return Execution(kind, True, graphs, "as configured")
    return _where_it_pays(config, networks, work)


def for_gpu(config: RunConfig) -> RunConfig:
    """Return the configuration with ``auto`` replaced by what runs on a GPU with a compiler."""
    compiles = bool(config.compile)
    graphs = config.cuda_graphs
    if graphs == "auto":
        stage = load_deepspeed_config(config.deepspeed).get("zero_optimization", {}).get("stage", 0)
        graphs = compiles and stage == 1 and config.settled_precision == "bf16"
    return config.model_copy(update={"compile": compiles, "cuda_graphs": graphs})


def expected_seconds(
    config: RunConfig, networks: PretrainingConfig, work: Work, *, compiles: bool
) -> float:
    """Return how long the updates take on a CPU by the nearest measurement, with compiling."""
    row = nearest(networks, config.settled_precision)
    eager = work.flops / (work.rate * row.share)
    return eager * row.ratio + row.seconds * work.kinds if compiles else eager


def _where_it_pays(config: RunConfig, networks: PretrainingConfig, work: Work) -> Execution:
    row = nearest(networks, config.settled_precision)
    eager = expected_seconds(config, networks, work, compiles=False)
    saved, costs = eager * (1 - row.ratio), row.seconds * work.kinds
    pays = saved >= _MARGIN * costs
    reason = (
        f"about {_duration(eager)} of updates, of which compiling saves {_duration(saved)} and "
        f"takes {_duration(costs)} (by what was measured at width {row.width} in {row.precision}, "
        f"{row.date})"
    )
    return Execution("cpu", pays, False, reason)


def nearest(networks: PretrainingConfig, precision: str) -> CompiledGain:
    """Return the measurement that is nearest in width, in the same precision where there is one."""
    width = networks.discriminator.hidden_size
    return min(
        measured_gains(),
        key=lambda row: (row.precision != precision, abs(math.log2(width / row.width))),
    )


def _resumed(config: RunConfig, before: Execution | None, now: Execution) -> Execution:
    """Keep what a run started with where it is still open and possible, and say what changes."""
    if before is None or (before.compile, before.cuda_graphs) == (now.compile, now.cuda_graphs):
        return now
    alike = config.compile == "auto" and now.device == before.device
    if alike and not (before.compile and no_compiler(torch.device(now.device))):
        return Execution(now.device, before.compile, before.cuda_graphs, "as the run began")
    log.warning("the run was %s; now it goes on %s", before.shown, now.shown)
    return now


def no_compiler(device: torch.device) -> str | None:
    """Return what the compiler lacks on this machine, if anything."""
    if device.type == "cuda":
        if find_spec("triton") is None:
            return "not compiled, Triton is not installed"
        command = os.environ.get("CC") or shutil.which("gcc") or "clang"
    else:
        command = os.environ.get("CXX") or "g++"
    if shutil.which(command.split()[0]) is None:
        return f"not compiled, there is no C++ compiler ({command})"
    return None


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
