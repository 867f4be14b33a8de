"""A DeepSpeed engine as the trainer needs it, the same in every ZeRO stage."""

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from convbert.pretrain.engine.loss_scale import LossScale
from convbert.pretrain.engine.optimizer import AdamW
from convbert.pretrain.engine.stopwatch import Stopwatch

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
