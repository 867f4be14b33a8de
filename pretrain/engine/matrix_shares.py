"""Bring every hidden matrix to one process, have it transformed there, and bring it back.

ZeRO leaves each process a flat part of the parameters, cut without regard to matrices. Every matrix
has one owner, mostly a process that holds the largest part of it. In stage 0, where all processes
hold everything, only the results travel.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from convbert.pretrain.engine.layout import Layout
from convbert.pretrain.engine.matrices import MatrixShape

_SLACK = 1.1  # of a fair share of the work, up to which a matrix stays where most of it lies
Transform = Callable[[list[Tensor], list[MatrixShape]], list[Tensor]]
"""From whole flat parameters and their shapes to what they are changed by."""


@dataclass(frozen=True)
class HeldPart:
    """Elements ``start`` to ``start + count`` of parameter ``index``; ``call`` updates it.

    The optimizer is called once for all parameters, in stage 3 once for each group of them.
    """

    index: int
    start: int
    count: int
    call: int = 0


def assign_owners(
    shapes: dict[int, MatrixShape], held: Sequence[Sequence[HeldPart]]
) -> dict[int, int]:
    """Choose the process that computes each matrix, so that the work is shared evenly.

    ``held`` lists the parts by process. The calls of one update are shared out one by one.
    """
    counts: dict[int, dict[int, int]] = {index: {} for index in shapes}
    calls: dict[int, list[int]] = {}
    for rank, parts in enumerate(held):
        for part in parts:
            if not counts[part.index]:
                calls.setdefault(part.call, []).append(part.index)
            counts[part.index][rank] = part.count
    owners: dict[int, int] = {}
    for indices in calls.values():
        fair = _SLACK * sum(shapes[i].cost for i in indices) / len(held)
        load = [0] * len(held)
        for index in sorted(indices, key=lambda i: (-shapes[i].cost, i)):
            cost = shapes[index].cost
            idle = min(range(len(held)), key=lambda rank: (load[rank], rank))
            most = max(counts[index], key=lambda rank: (counts[index][rank], -load[rank], -rank))
            owners[index] = most if load[most] + cost <= fair else idle
            load[owners[index]] += cost
    return owners


class MatrixShares:
    """The parts of hidden matrices in every process, and who computes them."""

    def __init__(
        self,
        shapes: dict[int, MatrixShape],
        held: Sequence[Sequence[HeldPart]],
        layout: Layout,
        *,
        rank: int = 0,
        calls: dict[int, int] | None = None,
        device: torch.device,
    ) -> None:
        """``shapes`` are by number of the parameter, as in ``layout``; ``held`` is by process.

        ``calls`` say which call updates a tensor, by its address; ``device`` computes.
        """
        self._shapes = shapes
        self._held = held
        self._layout = layout
        self._rank = rank
        self._calls = calls or {}
        self._device = device
        self._owners = assign_owners(shapes, held)
        self._known: dict[int, tuple[list[list[HeldPart]], list[list[HeldPart]]]] = {}
        self._replicated = len(held) > 1 and not layout.partitioned

    @classmethod
    def whole(cls, tensors: Sequence[Tensor], shapes: Sequence[MatrixShape]) -> "MatrixShares":
        """Return the shares of one process that holds each parameter as a tensor of its own."""
        parts = [HeldPart(i, 0, t.numel()) for i, t in enumerate(tensors)]
        layout = Layout.whole(tensors)
        return cls(dict(enumerate(shapes)), [parts], layout, device=tensors[0].device)

    def transformed(
        self, tensors: Sequence[Tensor], values: Sequence[Tensor], transform: Transform
    ) -> list[tuple[Tensor, Tensor]]:
        """Return, for each part in this process, its view in ``tensors`` and what changes it.

        ``values`` lie as the tensors do; ``transform`` sees whole matrices. All processes call it.
        """
        targets: dict[int, Tensor] = {}
        parts: dict[int, Tensor] = {}
        for tensor, value in zip(tensors, values, strict=True):
            for piece in self._layout.pieces(tensor):
                if piece.index in self._shapes:
                    targets[piece.index] = tensor.view(-1).narrow(0, piece.start, piece.count)
                    parts[piece.index] = value.view(-1).narrow(0, piece.start, piece.count)
        call = self._calls.get(tensors[0].data_ptr(), 0)
        matrices = self._collected(call, parts)
        shapes = [self._shapes[index] for index in matrices]
        found = transform(list(matrices.values()), shapes)
        results = self._returned(call, dict(zip(matrices, found, strict=True)))
        return [(target, results[i].to(target.device)) for i, target in targets.items()]

    def _between(self, call: int, holder: int, owner: int) -> list[HeldPart]:
        """List what lies in process ``holder`` of the matrices of process ``owner``."""
        parts = (p for p in self._held[holder] if p.call == call)
        return sorted((p for p in parts if self._owners[p.index] == owner), key=lambda p: p.index)

    def _routes(self, call: int) -> tuple[list[list[HeldPart]], list[list[HeldPart]]]:
        """Return, by process, its parts of this one's matrices, and this one's parts of its."""
        if call not in self._known:
            others = range(len(self._held))
            held = [self._between(call, holder, self._rank) for holder in others]
            self._known[call] = held, [self._between(call, self._rank, owner) for owner in others]
        return self._known[call]

    def _collected(self, call: int, parts: dict[int, Tensor]) -> dict[int, Tensor]:
        """Return the matrices of this process, whole and flat, by number."""
        if self._replicated or len(self._held) == 1:
            own = (i for i in sorted(parts) if self._owners[i] == self._rank)
            return {index: parts[index].to(self._device) for index in own}
        incoming, own_parts = self._routes(call)
        received = self._exchange([[parts[p.index] for p in to] for to in own_parts], incoming)
        whole: dict[int, Tensor] = {}
        for part, value in received:
            shape = self._shapes[part.index]
            if part.index not in whole:
                size = shape.blocks * shape.rows * shape.columns
                whole[part.index] = value.new_empty(size)
            whole[part.index].narrow(0, part.start, part.count).copy_(value)
        return dict(sorted(whole.items()))

    def _returned(self, call: int, results: dict[int, Tensor]) -> dict[int, Tensor]:
        """Return the results for the parts in this process, by number."""
        if len(self._held) == 1:
            return results
        # Where all processes hold everything, this one's results go to each of them.
        held, incoming = self._routes(call)
        outgoing = [
            [results[p.index].narrow(0, p.start, p.count) for p in wanted] for wanted in held
        ]
        return {part.index: value for part, value in self._exchange(outgoing, incoming)}

    def _exchange(
        self, outgoing: list[list[Tensor]], incoming: list[list[HeldPart]]
    ) -> list[tuple[HeldPart, Tensor]]:
        """Send tensors to each process; return what each sends, known to be ``incoming``."""
        way = torch.device("cpu") if dist.get_backend() == "gloo" else self._device
        sent = [sum(t.numel() for t in to) for to in outgoing]
        expected = [sum(p.count for p in of) for of in incoming]
        tensors = [t.to(way) for to in outgoing for t in to]
        flat = torch.cat(tensors) if tensors else torch.empty(0, device=way)
        received = torch.empty(sum(expected), device=way)
        dist.all_to_all_single(received, flat, expected, sent)
        order = [part for of in incoming for part in of]
        values = received.to(self._device).split([part.count for part in order])
        return list(zip(order, values, strict=True))
