"""The end of an update as work of the device alone, so that a CUDA graph can record all of it.

DeepSpeed adds each gradient to a buffer of its own by itself, waits for the norm, clips, updates
and rounds. With ZeRO stage 0 or 1 on one process nothing is divided, and the same is a handful of
operations on its flat tensors; whether they change anything is a number on the device.
"""

import torch
from torch import Tensor

from convbert.pretrain.engine.engine import Engine
from convbert.pretrain.engine.fragments import fragments

_EPSILON = 1e-6  # DeepSpeed's, beside the norm


class DeviceOptimizer:
    """Gradients, clipping, AdamW and rounding for an engine of ZeRO stage 0 or 1, one process.

    It works on the engine's own parameters, master copies and moments, so checkpoints and norms see
    what they always see. No method makes the host wait for the device.
    """

    def __init__(self, engine: Engine, clip: float) -> None:
        """``clip`` is the largest norm of the gradient, 0 for none."""
        self._optimizer = engine.base_optimizer
        self._clip = clip
        self.parameters = [p for p in engine.module.parameters() if p.requires_grad]
        self._masters = [p for g in self._optimizer.param_groups for p in g["params"]]
        # In bf16 DeepSpeed has flat fp32 gradients already.
        buffers = getattr(engine.deepspeed.optimizer, "fp32_groups_gradient_flat_partition", None)
        self._gradients = buffers or [torch.zeros_like(p) for p in self._masters]
        for master, gradient in zip(self._masters, self._gradients, strict=True):
            master.grad = gradient.view_as(master)
        self._views = self._views_of_gradients(engine)
        self._copies = self._rounded_copies(engine)
        self._received: list[Tensor] = []
        self._rates = torch.zeros(len(self._optimizer.param_groups), device=engine.device)

    @property
    def groups(self) -> list[dict[str, object]]:
        """The optimizer's groups, one learning rate each."""
        return self._optimizer.param_groups

    def add(self, gradients: tuple[Tensor, ...], *, first: bool) -> None:
        """Add the gradients of ``parameters`` to those of the update, or begin with them."""
        if first:
            torch._foreach_copy_(self._views, gradients)
        elif gradients[0].dtype == self._views[0].dtype:
            torch._foreach_add_(self._views, list(gradients))
        else:  # PyTorch adds lists of two types one by one, but copies them at once
            self._received = self._received or [torch.empty_like(v) for v in self._views]
            torch._foreach_copy_(self._received, gradients)
            torch._foreach_add_(self._views, self._received)

    def clear(self) -> None:
        """Begin an update without gradients."""
        torch._foreach_zero_(self._gradients)

    def norm(self) -> Tensor:
        """Return the norm of the whole gradient, a scalar in fp32."""
        return torch.stack(torch._foreach_norm(self._gradients)).norm()

    @torch.no_grad()
    def step(self, rates: Tensor, norm: Tensor, apply: Tensor) -> None:
        """Clip and update where ``apply``, a bool, is true; else leave everything as it is.

        ``rates`` are the learning rates of the groups, fp32; ``norm`` is the gradient's.
        """
        self._rates.copy_(rates)
        for group, rate in zip(self._optimizer.param_groups, self._rates.unbind(), strict=True):
            group["lr"] = rate
        optimizer = self._optimizer
        optimizer.found_inf = (~apply).float()
        optimizer.grad_scale = None
        if self._clip:
            optimizer.grad_scale = ((norm + _EPSILON) / self._clip).clamp(min=1.0)
        optimizer.update()
        if self._copies:
            rounded, exact = zip(*self._copies, strict=True)
            torch._foreach_copy_(rounded, exact)

    def _views_of_gradients(self, engine: Engine) -> list[Tensor]:
        """Return, for each parameter, its part of the gradients, in its shape."""
        by_address = {m.data_ptr(): m for m in self._masters}
        found = []
        for fragment, parameter in zip(fragments(engine), self.parameters, strict=True):
            master, part = by_address[fragment.tensor], fragment.views["param"]
            assert master.grad is not None
            offset = (part.data_ptr() - master.data_ptr()) // part.element_size()
            found.append(
                master.grad.view(-1).narrow(0, offset, fragment.count).view(parameter.shape)
            )
        return found

    def _rounded_copies(self, engine: Engine) -> list[tuple[Tensor, Tensor]]:
        """Pair what the networks compute with and the masters it is rounded from."""
        wrapper = engine.deepspeed.optimizer
        names = ("bf16_groups_flat", "bit16_groups_flat")
        flat = next((found for name in names if (found := getattr(wrapper, name, None))), None)
        if flat is not None:
            return [(f, m.detach()) for f, m in zip(flat, self._masters, strict=True)]
        return [
            (p.detach().view(-1), fragment.views["param"])
            for fragment, p in zip(fragments(engine), self.parameters, strict=True)
            if p.data_ptr() != fragment.tensor
        ]
