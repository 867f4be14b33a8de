"""DeepSpeed, set up in one place: the JSON configuration, the engine and its quirks.

The files in ``ds_configs`` are plain DeepSpeed configurations. What depends on the run is
``"auto"`` there and filled in here from the run configuration; nothing else is changed, so a
DeepSpeed user can read what runs.
"""

import contextlib
import io
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from convbert.cluster.rendezvous import host_store
from convbert.models.errors import UserError
from convbert.pretrain.engine.loss_scale import LossScale
from convbert.pretrain.engine.optimizer import AdamW
from convbert.pretrain.engine.stopwatch import Stopwatch

Precision = Literal["fp32", "bf16", "fp16"]

_HOSTED: list[Any] = []  # the store lives as long as the process that serves it


def load_deepspeed_config(name: str) -> dict[str, Any]:
    """Read a configuration by its name in ``ds_configs`` (``zero1``) or by its path."""
    path = Path(name)
    if path.suffix != ".json":
        folder = resources.files("convbert.ds_configs")
        path = Path(str(folder / f"{name}.json"))
        if not path.is_file():
            known = sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".json"))
            raise UserError(
                f"deepspeed: no configuration named '{name}'; choose one of {', '.join(known)} "
                "or give the path of a .json file"
            )
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"deepspeed: the file {path} does not exist") from None
    except json.JSONDecodeError as error:
        raise UserError(f"deepspeed: {path} is not valid JSON: {error}") from None


def resolve_deepspeed_config(
    template: dict[str, Any],
    *,
    precision: Precision,
    micro_batch: int,
    accumulation: int,
    clip: float,
) -> dict[str, Any]:
    """Fill every ``"auto"`` of a configuration; keys the file sets itself are kept."""
    values: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": clip,
        "bf16.enabled": precision == "bf16",
        "fp16.enabled": precision == "fp16",
        "data_types.grad_accum_dtype": "fp32",
        "zero_optimization.offload_optimizer.pin_memory": torch.cuda.is_available(),
        "zero_optimization.offload_param.pin_memory": torch.cuda.is_available(),
    }

    def fill(node: Any, prefix: str) -> Any:
        if isinstance(node, dict):
            return {k: fill(v, f"{prefix}.{k}" if prefix else k) for k, v in node.items()}
        if node == "auto":
            if prefix not in values:
                raise UserError(f"deepspeed: '{prefix}' cannot be 'auto'; give it a value")
            return values[prefix]
        return node

    return fill(template, "")


def require_graphs(config: dict[str, Any]) -> None:
    """Refuse CUDA graphs where gradients or parameters do not stay where the graph has them.

    In bf16 with ZeRO stage 1 DeepSpeed keeps parameters in place and adds each gradient to one of
    its own at once, after which the graph's memory is free for the next replay.
    """
    stage = config.get("zero_optimization", {}).get("stage", 0)
    if stage != 1 or not config.get("bf16", {}).get("enabled"):
        raise UserError(
            f"cuda_graphs=true: needs precision=bf16 and ZeRO stage 1, this is stage {stage}; "
            "choose deepspeed=zero1 or leave it out"
        )


def init_distributed(hang_seconds: float | None = None) -> torch.device:
    """Join the process group described by the environment (torchrun or SLURM ranks).

    Returns the device of this process. A single process without such an environment forms a group
    of its own. Collectives wait twice ``hang_seconds``, so that the watchdog, which knows who is
    late, comes before NCCL, which would end the processes that wait after ten minutes.
    """
    for key, value in {
        "RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "0",
    }.items():
        os.environ.setdefault(key, value)
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed

    # Its progress notes go to stdout; importing it resets the level.
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # The shared-memory reduction is compiled on first use, takes all processes to be on one
    # node, and gloo is fast enough for what a CPU can train.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if not torch.cuda.is_available():
        # PyTorch computes in fp16 on every CPU, slowly without instructions for it.
        deepspeed.accelerator.get_accelerator().is_fp16_supported = lambda: True
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    _HOSTED.append(host_store())
    patience = None if hang_seconds is None else timedelta(seconds=2 * hang_seconds)
    torch.distributed.init_process_group(backend, timeout=patience)
    deepspeed.init_distributed(dist_backend=backend, dist_init_required=False, verbose=False)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


Accept = Callable[[float | Tensor], bool]
"""Told the gradient norm of an update, says whether it is to be applied; the same everywhere."""


@dataclass(frozen=True)
class Update:
    """How an update ended.

    ``norm`` is that of the gradient before clipping, over all parameters and processes.
    ``applied`` is false if it was refused or the gradient overflowed; ``overflow`` says that
    DeepSpeed left it out without asking.
    """

    norm: float | Tensor
    applied: bool
    overflow: bool


class Engine:
    """A DeepSpeed engine with the few operations the trainer needs, equal in every stage."""

    def __init__(self, module: nn.Module, config: dict[str, Any], optimizer: AdamW) -> None:
        import deepspeed

        # FP16_UnfusedOptimizer takes a step on zero gradients while it is built; at rate 0 that
        # step changes nothing, at any other rate it would decay the weights.
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        self.module = module
        self.updates = 0  # applied ones, of the whole run
        self._accept: Accept | None = None
        self._accepted: bool | None = None
        self._own_norm: Tensor | None = None
        optimizer.step = self._gated(optimizer.step)  # type: ignore[method-assign]
        self.stage: int = config.get("zero_optimization", {}).get("stage", 0)
        self.base_optimizer = optimizer
        self.stopwatch = Stopwatch()
        self.replays_graphs = False
        # Without ZeRO and in fp32 DeepSpeed clips but does not tell the norm, so it is done here.
        self._own_clip = 0.0
        low = config.get("bf16", {}).get("enabled") or config.get("fp16", {}).get("enabled")
        if self.stage == 0 and not low:
            self._own_clip = config.get("gradient_clipping", 0.0)
            config = {**config, "gradient_clipping": 0.0}
        # BF16_Optimizer prints its memory readings.
        with contextlib.redirect_stdout(io.StringIO()):
            self.deepspeed, *_ = deepspeed.initialize(
                model=module, optimizer=optimizer, config=config, dist_init_required=False
            )
        self.loss_scale = LossScale(self.deepspeed, self.stage)

    @property
    def device(self) -> torch.device:
        """The device the parameters live on."""
        return torch.device(self.deepspeed.device)

    def forward_backward(self, *inputs: Any) -> Tensor:
        """Run one micro-batch and return its detached statistics."""
        with self.stopwatch("forward"):
            loss, statistics = self.deepspeed(*inputs)
        with self.stopwatch("backward"):
            self.deepspeed.backward(self.loss_scale.scaled(loss))
        if self.replays_graphs:
            # They lie in memory of the graph, which the next replay overwrites, and DeepSpeed has
            # added them to its own; it would set them to zero during that replay.
            self.deepspeed.optimizer.clear_lp_grads(set_to_none=True)
        return statistics

    def evaluate(self, *inputs: Any) -> tuple[Tensor, Tensor]:
        """Run the module without training it; every process must call this equally often."""
        outputs: tuple[Tensor, Tensor] = self.deepspeed(*inputs)
        return outputs

    def step(self, learning_rate: float, accept: Accept) -> Update | None:
        """Finish a micro-batch; at the accumulation boundary update if ``accept`` agrees.

        Returns None before the boundary.
        """
        for group in self.deepspeed.optimizer.param_groups:
            group["lr"] = learning_rate
        boundary = self.deepspeed.is_gradient_accumulation_boundary()
        self._accept, self._accepted, self._own_norm = accept, None, None
        if self._own_clip and boundary:
            self._own_norm = nn.utils.clip_grad_norm_(self.module.parameters(), self._own_clip)
        with self.stopwatch("optimizer"):
            self.deepspeed.step()
        if not boundary:
            return None
        self.updates += bool(self._accepted)
        update = Update(self._norm(), bool(self._accepted), overflow=self._accepted is None)
        self.loss_scale.adapt()
        return update

    def _norm(self) -> float | Tensor:
        if self._own_norm is not None:
            return self._own_norm
        return self.loss_scale.unscaled(self.deepspeed.optimizer._global_grad_norm)

    def set_accumulation(self, micro_batch: int, accumulation: int) -> None:
        """Divide the updates from here on otherwise; to be called between two updates."""
        engine = self.deepspeed
        engine.set_train_micro_batch_size(micro_batch)
        engine.set_train_batch_size(micro_batch * accumulation * engine.dp_world_size)
        engine.micro_steps = 0
        if self.stage:
            engine.optimizer.gradient_accumulation_steps = accumulation

    def _gated(self, step: Callable[[], Any]) -> Callable[..., None]:
        """Ask before the optimizer's step, once per update however often DeepSpeed calls it.

        DeepSpeed computes the norm before it steps and copies the parameters after it, whatever
        the stage, so a refused update leaves everything as it was.
        """

        def gated(closure: None = None) -> None:
            if self._accept is None:  # DeepSpeed's own step while it is built
                step()
                return
            if self._accepted is None:
                self._accepted = self._accept(self._norm())
            if self._accepted:
                for group in self.base_optimizer.param_groups:
                    group["step"] = self.updates  # stage 3 steps a group in several parts
                step()

        return gated
