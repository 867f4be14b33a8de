"""Where the parameters of a module lie inside the tensors that the optimizer updates.

ZeRO flattens many parameters into one tensor and leaves each process a part of it, so a norm per
parameter needs to know which stretch of which tensor belongs to which parameter.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ParameterSlice:
    """Elements ``start`` to ``start + count`` of an optimizer's tensor: part of one parameter."""

    index: int
    start: int
    count: int


class Layout:
    """Pieces of ``size`` parameters; ``partitioned`` says that other processes hold the rest."""

    def __init__(self, views: Sequence[tuple[int, Tensor]], size: int, *, partitioned: bool):
        """``views`` pair the number of a parameter with the flat part of it in this process."""
        self._views = [(index, v, v.data_ptr()) for index, v in views]
        self._known: dict[int, list[ParameterSlice]] = {}
        self.size = size
        self.partitioned = partitioned

    @classmethod
    def whole(cls, tensors: Sequence[Tensor]) -> "Layout":
        """Return the layout of tensors that are one parameter each."""
        views = [(i, t.detach().view(-1)) for i, t in enumerate(tensors)]
        return cls(views, len(tensors), partitioned=False)

    def pieces(self, tensor: Tensor) -> list[ParameterSlice]:
        """List the pieces of one of the optimizer's tensors."""
        begin = tensor.data_ptr()
        if begin not in self._known:
            end, width = begin + tensor.numel() * tensor.element_size(), tensor.element_size()
            self._known[begin] = [
                ParameterSlice(index, (address - begin) // width, view.numel())
                for index, view, address in self._views
                if begin <= address < end
            ]
        return self._known[begin]

    def squares(self, pieces: Sequence[list[ParameterSlice]], tensors: Sequence[Tensor]) -> Tensor:
        """Return this process's sum of squares for each parameter, fp32 [size]."""
        total = torch.zeros(self.size, device=tensors[0].device)
        parts = [
            (p.index, t.detach().view(-1).narrow(0, p.start, p.count))
            for held, t in zip(pieces, tensors, strict=True)
            for p in held
        ]
        if parts:
            index = torch.tensor([i for i, _ in parts], device=total.device)
            norms = torch.stack(torch._foreach_norm([t for _, t in parts]))
            total.index_add_(0, index, norms.float().square())
        return total
