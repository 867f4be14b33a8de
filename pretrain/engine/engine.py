"""A DeepSpeed engine as the trainer needs it, the same in every ZeRO stage."""

import contextlib
import io
from collections.abc import Callable
from typing import Any

import torch
from greenlet import greenlet
from torch import Tensor, nn

from convbert.pretrain.engine.imports import import_deepspeed
from convbert.pretrain.engine.loss_scale import LossScale
from convbert.pretrain.engine.optimizer import AdamW
from convbert.pretrain.engine.stopwatch import Stopwatch


class Engine:
    """A DeepSpeed engine with the few operations the trainer needs, equal in every stage."""

    def __init__(self, module: nn.Module, config: dict[str, Any], optimizer: AdamW) -> None:
        deepspeed = import_deepspeed()
        # FP16_UnfusedOptimizer takes a step on zero gradients while it is built; at rate 0 that
        # step changes nothing, at any other rate it would decay the weights.
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        self.module = module
        self.updates = 0  # applied ones, of the whole run
        self.overflowed = False  # DeepSpeed has left out the newest update by itself
        self._running: greenlet | None = None
        self._apply: bool | None = None
        self._own_norm: Tensor | None = None
        optimizer.step = self._pausing(optimizer.step)  # type: ignore[method-assign]
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

    def forward(self, *inputs: Any) -> tuple[Tensor, Tensor]:
        """Run the objective on one micro-batch; return its loss and its detached statistics."""
        with self.stopwatch("forward"):
            loss, statistics = self.deepspeed(*inputs)
        return loss, statistics

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of one micro-batch to that of the update."""
        with self.stopwatch("backward"):
            self.deepspeed.backward(self.loss_scale.scaled(loss))
        if self.replays_graphs:
            # They lie in memory of the graph, which the next replay overwrites, and DeepSpeed has
            # added them to its own; it would set them to zero during that replay.
            self.deepspeed.optimizer.clear_lp_grads(set_to_none=True)
        if not self.deepspeed.is_gradient_accumulation_boundary():
            self.deepspeed.step()  # counts the micro-batch

    def evaluate(self, *inputs: Any) -> tuple[Tensor, Tensor]:
        """Run the module without training it; every process must call this equally often."""
        outputs: tuple[Tensor, Tensor] = self.deepspeed(*inputs)
        return outputs

    def lend(self, module: nn.Module, parameter: Tensor) -> None:
        """Let ``module``, when it is called by itself, use a ``parameter`` of another module.

        In stage 3 it would find only this process's part of it.
        """
        if self.stage == 3:
            import_deepspeed().zero.register_external_parameter(module, parameter)

    def gradient_norm(self, learning_rate: float, *, hold: bool = False) -> float | Tensor:
        """Complete the gradient of an update; return its norm before clipping.

        With ``hold`` the rate of the parameters that can be held is 0: they stay as they are,
        weight decay included, while their moments go on.

        The norm is that over all parameters and processes. It is infinite where DeepSpeed has left
        out the update by itself (``overflowed``). DeepSpeed takes the norm, clips and updates in
        one method, which is run here up to the optimizer and pauses there, until ``finish`` says
        how it goes on.
        """
        groups = self.deepspeed.optimizer.param_groups
        for group, rate in zip(groups, self.rates(learning_rate, hold=hold), strict=True):
            group["lr"] = rate
        self._apply, self._own_norm = None, None
        if self._own_clip:
            self._own_norm = nn.utils.clip_grad_norm_(self.module.parameters(), self._own_clip)
        self._running = greenlet(self.deepspeed.step)
        with self.stopwatch("optimizer"):
            self._running.switch()
        self.overflowed = self._running.dead
        return self._norm()

    def rates(self, learning_rate: float, *, hold: bool = False) -> list[float]:
        """Return the learning rate of each of the optimizer's groups."""
        return [
            (0.0 if hold and group.get("held") else learning_rate) * group.get("rate_ratio", 1.0)
            for group in self.deepspeed.optimizer.param_groups
        ]

    def finish(self, *, apply: bool) -> bool:
        """Apply the update or leave parameters and moments as they are; return which it was."""
        assert self._running is not None, "gradient_norm comes first"
        self._apply = apply
        if not self.overflowed:
            with self.stopwatch("optimizer"):
                self._running.switch()
        self._running = None
        applied = apply and not self.overflowed
        self.updates += applied
        self.loss_scale.adapt()
        return applied

    def finished(self, *, applied: bool) -> None:
        """Count an update that ran without ``gradient_norm`` and ``finish``."""
        self.overflowed = False
        self.updates += applied

    def _norm(self) -> float | Tensor:
        if self._own_norm is not None:
            return self._own_norm
        return self.loss_scale.unscaled(self.deepspeed.optimizer._global_grad_norm)

    def set_accumulation(self, micro_batch: int, accumulation: int) -> None:
        """Change the micro-batch and how many make an update; call it between two updates."""
        engine = self.deepspeed
        engine.set_train_micro_batch_size(micro_batch)
        engine.set_train_batch_size(micro_batch * accumulation * engine.dp_world_size)
        engine.micro_steps = 0
        if self.stage:
            engine.optimizer.gradient_accumulation_steps = accumulation

    def _pausing(self, step: Callable[[], Any]) -> Callable[..., None]:
        """Pause before the optimizer's step, once per update however often DeepSpeed calls it.

        DeepSpeed computes the norm before it steps and copies the parameters after it, whatever
        the stage, so an update that is not applied leaves everything as it was.
        """

        def paused(closure: None = None) -> None:
            if self._running is None:  # DeepSpeed's own step while it is built
                step()
                return
            if self._apply is None:
                self._running.parent.switch()
            if self._apply:
                for group in self.base_optimizer.param_groups:
                    group["step"] = self.updates  # stage 3 steps a group in several parts
                step()

        return paused
