"""Muon: momentum of the hidden matrices, orthogonalized; everything else by AdamW.

Jordan et al. 2024 (kellerjordan.github.io/posts/muon). Which parameters are hidden matrices, and of
how many blocks they are made, stands in ``matrices``; who computes what in ``matrix_shares``.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from convbert.pretrain.engine.matrices import MatrixShape
from convbert.pretrain.engine.matrix_shares import MatrixShares
from convbert.pretrain.engine.optimizer import AdamW

_A, _B, _C = 3.4445, -4.7750, 2.0315  # of the published iteration: steepest at 0
_EPSILON = 1e-7
_MOST_AT_ONCE = 1 << 25  # elements of one batch of matrices, so that temporaries stay small


def orthogonalize(matrices: Tensor, iterations: int) -> Tensor:
    """Return ``U V^T`` of each matrix ``U S V^T``, approximately, [blocks, rows, columns].

    A quintic Newton-Schulz iteration, which leaves singular values between about 0.7 and 1.2.
    Zeros stay zeros.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    wide = matrices.mT if tall else matrices
    x = wide / wide.norm(dim=(-2, -1), keepdim=True).clamp(min=_EPSILON)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x.mT if tall else x


def _batches(shapes: Sequence[MatrixShape]) -> Iterable[list[int]]:
    """Group the numbers of matrices of one shape, none of the groups too large."""
    alike: dict[tuple[int, int], list[int]] = {}
    for number, shape in enumerate(shapes):
        alike.setdefault((shape.rows, shape.columns), []).append(number)
    for (rows, columns), numbers in alike.items():
        size = 0
        batch: list[int] = []
        for number in numbers:
            if batch and (size + shapes[number].blocks) * rows * columns > _MOST_AT_ONCE:
                yield batch
                batch, size = [], 0
            batch.append(number)
            size += shapes[number].blocks
        yield batch


class Muon(AdamW):
    """Muon for the group with ``matrices``, ``AdamW`` for the others.

    With ``m = momentum m + (1 - momentum) g`` and Nesterov's ``u = momentum m + (1 - momentum) g``
    the update of a matrix is ``p -= lr * (sqrt(max(1, out / in)) * orthogonalize(u) +
    weight_decay * p)``. ``lr`` of that group is its own peak times the schedule. A matrix is
    orthogonalized by one process, which receives its parts from those that hold them and returns
    the result to them, so that stages and numbers of processes train alike.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        matrices: dict[str, MatrixShape],
        momentum: float = 0.95,
        iterations: int = 5,
        dtype: torch.dtype | None = None,
        **adamw: Any,
    ) -> None:
        """``matrices`` are the parameters of the group with ``matrices``, in its order, by name.

        ``dtype`` is that of the iteration; None computes in the one of the parameters.
        """
        super().__init__(params, **adamw)
        self._matrices = matrices
        self._momentum = momentum
        self._iterations = iterations
        self._dtype = dtype
        self.shares: MatrixShares | None = None

    def moments(self, name: str) -> tuple[str, ...]:
        """List what is kept for each element of the parameter ``name``: one moment of a matrix."""
        return ("exp_avg",) if name in self._matrices else super().moments(name)

    def _update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        if not group["matrices"]:
            super()._update(group, params, grads)
            return
        shares = self.shares or MatrixShares.whole(params, list(self._matrices.values()))
        momenta = self._moments(params, "exp_avg")
        torch._foreach_lerp_(momenta, grads, 1 - self._momentum)
        updates = torch._foreach_lerp(grads, momenta, self._momentum)
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        for target, update in shares.transformed(params, updates, self._orthogonalized):
            target.add_(update, alpha=-group["lr"])

    def _orthogonalized(self, flat: list[Tensor], shapes: list[MatrixShape]) -> list[Tensor]:
        """Return the flat updates of whole parameters from their flat momenta."""
        results: list[Tensor] = [torch.empty(0)] * len(flat)
        for numbers in _batches(shapes):
            first = shapes[numbers[0]]
            parts = [flat[n].view(-1, first.rows, first.columns) for n in numbers]
            stacked = torch.cat(parts).to(self._dtype or flat[numbers[0]].dtype)
            found = orthogonalize(stacked, self._iterations).to(flat[numbers[0]].dtype)
            for number, part in zip(numbers, found.split([len(p) for p in parts]), strict=True):
                results[number] = (part * shapes[number].scale).reshape(-1)
        return results
