"""AdamW as ELECTRA uses it (no bias correction), and which parameters it decays.

DeepSpeed's fused operator does the same arithmetic on a GPU; this one serves CPUs and every
place without a compiler, in a handful of multi-tensor calls.
"""

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

_NO_DECAY = re.compile(r"(^|\.)norm\.|bias")


class AdamW(torch.optim.Optimizer):
    """AdamW with decoupled weight decay and optional bias correction.

    The update is ``p -= lr * (m / (sqrt(v) + eps) + weight_decay * p)`` with
    ``m = b1 m + (1-b1) g`` and ``v = b2 v + (1-b2) g^2``; ``eps`` stands outside the root.
    Without bias correction (the default, as in ELECTRA's released code) the first updates are
    up to 6.5 times larger than Adam's, which the warm-up is there to tame.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        bias_correction: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "bias_correction": bias_correction,
            "step": 0,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Apply one update to every parameter that has a gradient."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            pairs = [(p, p.grad) for p in group["params"] if p.grad is not None]
            if pairs:
                self._update(group, *map(list, zip(*pairs, strict=True)))
        return loss

    def _update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        b1, b2 = group["betas"]
        lr = group["lr"]
        exp_avg, exp_avg_sq = self._moments(params, "exp_avg"), self._moments(params, "exp_avg_sq")
        group["step"] += 1
        torch._foreach_lerp_(exp_avg, grads, 1 - b1)
        torch._foreach_mul_(exp_avg_sq, b2)
        torch._foreach_addcmul_(exp_avg_sq, grads, grads, 1 - b2)
        step_size, root_scale = lr, 1.0
        if group["bias_correction"]:
            step_size = lr / (1 - b1 ** group["step"])
            root_scale = 1 / math.sqrt(1 - b2 ** group["step"])
        denominators = torch._foreach_sqrt(exp_avg_sq)
        if root_scale != 1.0:
            torch._foreach_mul_(denominators, root_scale)
        torch._foreach_add_(denominators, group["eps"])
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
        torch._foreach_addcdiv_(params, exp_avg, denominators, -step_size)

    def _moments(self, params: list[Tensor], name: str) -> list[Tensor]:
        for p in params:
            if name not in self.state[p]:
                self.state[p][name] = torch.zeros_like(p)
        return [self.state[p][name] for p in params]


def decays(name: str) -> bool:
    """Say whether weight decay applies: to all but LayerNorm parameters and biases."""
    return _NO_DECAY.search(name) is None


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split the trainable parameters into a decayed and an undecayed group, each tensor once."""
    split: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            split[decays(name)].append(parameter)
    return [
        {"params": split[True], "weight_decay": weight_decay},
        {"params": split[False], "weight_decay": 0.0},
    ]
