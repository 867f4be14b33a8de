"""AdamW as ELECTRA uses it (no bias correction), LAMB, and which parameters are decayed.

Both work on whatever tensors DeepSpeed hands them: whole parameters without ZeRO, flat partitions
of many parameters with it, on the device or offloaded to the host, and need no compiler.
"""

import math
import re
from collections.abc import Callable, Container, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.adamw import adamw

from convbert.pretrain.engine.layout import Layout

_NO_DECAY = re.compile(r"(^|\.)norm\.|bias")


class AdamW(torch.optim.Optimizer):
    """AdamW with decoupled weight decay and optional bias correction.

    The update is ``p -= lr * (m / (sqrt(v) + eps) + weight_decay * p)`` with
    ``m = b1 m + (1-b1) g`` and ``v = b2 v + (1-b2) g^2``; ``eps`` stands outside the root.
    Without bias correction (the default, as in ELECTRA's released code) the first updates are
    up to 6.5 times larger than Adam's, which the warm-up is there to tame.
    """

    # As PyTorch's gradient scaler sets them: tensors by which gradients are divided, and whose 1
    # leaves the update out. Rates (``lr``) may be tensors, too.
    grad_scale: Tensor | None = None
    found_inf: Tensor | None = None

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

    def moments(self, name: str) -> tuple[str, ...]:
        """List what is kept for each element of the parameter ``name``, for checkpoints."""
        return ("exp_avg", "exp_avg_sq")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Apply one update to every parameter that has a gradient."""
        loss = None if closure is None else closure()
        self.update()
        return loss

    @torch.no_grad()
    def update(self) -> None:
        """Do what ``step`` does without calling its hooks, which a CUDA graph would not record."""
        for group in self.param_groups:
            pairs = [(p, p.grad) for p in group["params"] if p.grad is not None]
            if pairs:
                self._update(group, *map(list, zip(*pairs, strict=True)))

    def _update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        """Update in one pass over memory, by PyTorch's fused kernel."""
        group["step"] += 1
        # The kernel always corrects the bias of step t; of step infinity the correction is 1. It
        # counts on by itself, so it is given the step before and throw-away counters; infinity
        # stays what it is, so one counter does for all.
        device, count = params[0].device, len(params)
        if group["bias_correction"]:
            counters = list(torch.full((count,), group["step"] - 1.0, device=device).unbind())
        else:
            counters = [torch.full((), math.inf, device=device)] * count
        adamw(
            params,
            grads,
            self._moments(params, "exp_avg"),
            self._moments(params, "exp_avg_sq"),
            [],
            counters,
            fused=True,
            grad_scale=self.grad_scale,
            found_inf=self.found_inf,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )

    def _moments(self, params: list[Tensor], name: str) -> list[Tensor]:
        states = [self.state[p] for p in params]
        for p, state in zip(params, states, strict=True):
            if name not in state:
                state[name] = torch.zeros_like(p)
        return [state[name] for state in states]


class Lamb(AdamW):
    """LAMB (You et al. 2020): AdamW's update, scaled for each parameter to that parameter's norm.

    With ``u = m / (sqrt(v) + eps) + weight_decay * p`` the update is ``p -= lr * |p| / |u| * u``;
    the ratio is 1 where either norm is 0. Both norms are of the whole parameter: where ZeRO left
    this process only a part of it, their squares are summed over the processes. Groups with
    ``adapt`` false (layer norms and biases, as in the authors' code) keep AdamW's update.
    """

    layout: Layout | None = None
    """Where parameters lie in partitioned tensors; None when every tensor is one parameter."""

    def _update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        if not group["adapt"]:
            super()._update(group, params, grads)
            return
        exp_avg, denominators, factor = self._moments_of(group, params, grads)
        updates = list(torch._foreach_div(exp_avg, denominators))
        if factor != 1.0:
            torch._foreach_mul_(updates, factor)
        if group["weight_decay"]:
            torch._foreach_add_(updates, params, alpha=group["weight_decay"])
        self._scale(params, updates)
        torch._foreach_add_(params, updates, alpha=-group["lr"])

    def _moments_of(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], float]:
        """Update the moments; return m, ``sqrt(v) + eps`` and the factor that corrects m's bias."""
        b1, b2 = group["betas"]
        exp_avg, exp_avg_sq = self._moments(params, "exp_avg"), self._moments(params, "exp_avg_sq")
        group["step"] += 1
        torch._foreach_lerp_(exp_avg, grads, 1 - b1)
        torch._foreach_mul_(exp_avg_sq, b2)
        torch._foreach_addcmul_(exp_avg_sq, grads, grads, 1 - b2)
        factor, root_scale = 1.0, 1.0
        if group["bias_correction"]:
            factor = 1 / (1 - b1 ** group["step"])
            root_scale = 1 / math.sqrt(1 - b2 ** group["step"])
        denominators = list(torch._foreach_sqrt(exp_avg_sq))
        if root_scale != 1.0:
            torch._foreach_mul_(denominators, root_scale)
        torch._foreach_add_(denominators, group["eps"])
        return exp_avg, denominators, factor

    def _scale(self, params: list[Tensor], updates: list[Tensor]) -> None:
        """Multiply every parameter's part of the updates by its ratio of norms."""
        layout = self.layout or Layout.whole(params)
        pieces = [layout.pieces(p) for p in params]
        squares = torch.stack([layout.squares(pieces, ts) for ts in (params, updates)])
        if layout.partitioned:
            dist.all_reduce(squares)
        of_params, of_updates = squares.sqrt()
        usable = (of_params > 0) & (of_updates > 0)
        ratios = torch.where(usable, of_params / of_updates, 1.0)
        for held, update in zip(pieces, updates, strict=True):
            flat = update.view(-1)
            for piece in held:
                flat.narrow(0, piece.start, piece.count).mul_(ratios[piece.index])


def decays(name: str) -> bool:
    """Return whether weight decay applies: to all but LayerNorm parameters and biases."""
    return _NO_DECAY.search(name) is None


def parameter_groups(
    module: nn.Module,
    weight_decay: float,
    matrices: Container[str] = (),
    held: Container[str] = (),
) -> list[dict[str, Any]]:
    """Split the trainable parameters into groups, each tensor once.

    The parameters named in ``matrices`` come first, then those that are decayed and those that are
    not; ``adapt`` is what LAMB and ``matrices`` what Muon does with a group. Those named in
    ``held`` are in groups of their own, which can be held where they are.
    """
    kinds = ("matrices", "decayed", "undecayed")
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {
        (kind, apart): [] for kind in kinds for apart in (False, True)
    }
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            kind = "decayed" if decays(name) else "undecayed"
            groups["matrices" if name in matrices else kind, name in held].append(parameter)
    return [
        {
            "params": params,
            "weight_decay": 0.0 if kind == "undecayed" else weight_decay,
            "adapt": kind != "undecayed",
            "matrices": kind == "matrices",
            "held": apart,
        }
        for (kind, apart), params in groups.items()
        if params
    ]
