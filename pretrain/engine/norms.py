"""Gradient and parameter norms of each part of the networks, taken where the optimizer sees them.

The only place where every ZeRO stage shows whole gradients in fp32, summed over the processes, is
the call of the optimizer. A hook there measures the updates that were asked for and no others.
"""

import re
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from convbert.pretrain.engine.engine import Engine
from convbert.pretrain.engine.fragments import fragments, shapes
from convbert.pretrain.engine.layout import Layout
from convbert.pretrain.run import metric_names

_EMBEDDINGS = re.compile(r"(^|\.)embeddings\.")
_NETWORK = re.compile(r"^(?:model\.)?(generator|discriminator)")


def part_of(name: str) -> str:
    """Return the part of a parameter: embeddings, generator, discriminator or encoder."""
    if _EMBEDDINGS.search(name):
        return "embeddings"
    network = _NETWORK.match(name)
    return network.group(1) if network else "encoder"


def layout_of(engine: Engine) -> Layout:
    """Find every parameter, numbered in the module's order, in the optimizer's tensors."""
    numbers = {name: index for index, name in enumerate(shapes(engine))}
    views = [(numbers[f.name], f.views["param"]) for f in fragments(engine)]
    return Layout(views, len(numbers), partitioned=engine.stage > 0)


class PartNorms:
    """Norms by part of the networks, of the update for which ``wanted`` was set."""

    def __init__(self, engine: Engine, layout: Layout) -> None:
        self.wanted = False
        self._engine = engine
        self._layout = layout
        self._squares: Tensor | None = None
        self._before: Tensor | None = None
        names = [part_of(name) for name in shapes(engine)]
        self.parts = sorted(set(names))
        self._part_of = torch.tensor([self.parts.index(n) for n in names])
        engine.base_optimizer.register_step_pre_hook(self._measure)

    @torch.no_grad()
    def _measure(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Add the sums of squares of what is about to be updated: ZeRO calls once per group."""
        if self.wanted and self._tensors():
            found = torch.stack([self._of_gradients(), self._of_parameters()])
            self._squares = found if self._squares is None else self._squares + found

    @torch.no_grad()
    def before(self) -> None:
        """Measure the parameters of an update that runs without the optimizer's hooks."""
        self._before = self._of_parameters() if self.wanted else None

    @torch.no_grad()
    def after(self, *, applied: bool) -> None:
        """Measure its gradients, which are still there, if it was applied."""
        if self._before is not None and applied:
            self._squares = torch.stack([self._of_gradients(), self._before])

    def _tensors(self) -> list[Tensor]:
        groups = self._engine.base_optimizer.param_groups
        return [p for g in groups for p in g["params"] if p.grad is not None]

    def _of_parameters(self) -> Tensor:
        tensors = self._tensors()
        return self._layout.squares([self._layout.pieces(p) for p in tensors], tensors)

    def _of_gradients(self) -> Tensor:
        tensors = self._tensors()
        gradients = [p.grad for p in tensors if p.grad is not None]
        return self._layout.squares([self._layout.pieces(p) for p in tensors], gradients)

    def read(self, total: float) -> dict[str, float]:
        """Return the norms of the measured update, or nothing if it was skipped.

        ``total`` is the norm of the whole gradient before clipping, to which the gradients' norms
        are scaled back. Every process must call it.
        """
        squares, self._squares, self.wanted = self._squares, None, False
        table = torch.zeros(2, self._layout.size) if squares is None else squares.cpu()
        by_part = torch.zeros(2, len(self.parts)).index_add_(1, self._part_of, table)
        if self._layout.partitioned:
            by_part = by_part.to(self._engine.device)
            dist.all_reduce(by_part)
        gradients, parameters = by_part.sqrt().tolist()
        clipped = sum(g * g for g in gradients) ** 0.5
        if not clipped:
            return {}
        norms = {
            metric_names.gradient_norm(part): g * total / clipped
            for part, g in zip(self.parts, gradients, strict=True)
        }
        return norms | {
            metric_names.parameter_norm(part): p
            for part, p in zip(self.parts, parameters, strict=True)
        }
