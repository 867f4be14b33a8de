"""Loss and sampling over a large vocabulary, a few rows of logits at a time.

The logits of all masked positions, [M, V], are the largest tensor of a pretraining step. Here they
exist for one chunk of rows only: the forward pass keeps one number per row, and the backward pass
multiplies the chunk out again (a third more work in this product, under two per cent of a step).
On a GPU a kernel for each pass reads the product as it is, in low precision, and once.
Loss, softmax and cumulative sums are taken in at least float32.

Shape suffixes: M masked positions, C rows of one chunk, V vocabulary, D width of the word table.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convbert.models.ops import triton_masked_lm
from convbert.models.ops.convolution import selected_backend

# Logits that exist at once: on a CPU what stays near its caches (16 MiB), on a GPU enough rows to
# keep it busy (128 MiB).
_CPU_CHUNK, _GPU_CHUNK = 2**22, 2**25
_ALIGNMENT = 64


def masked_lm(
    hidden_MD: Tensor,
    weight_VD: Tensor,
    bias_V: Tensor,
    targets_M: Tensor,
    uniform_M: Tensor,
    temperature: float | Tensor = 1.0,
    *,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return loss, a sample and whether the argmax is right, from one pass over the logits.

    The generator of replaced-token detection (ELECTRA, Clark et al. 2020, section 2) needs all
    three. Returns, for the logits ``hidden @ weight.T + bias``,

    - ``loss_M``: ``-log softmax(logits)`` at the targets, which alone carries a gradient;
    - ``sampled_M``: an id drawn from ``softmax(logits / temperature)`` by inverting its
      distribution: the smallest id whose cumulative probability exceeds ``uniform_M``, a number in
      [0, 1), so that the draw is a function of its inputs; also where the logits are NaN or
      infinite and mean nothing, it is an id of the vocabulary;
    - ``correct_M``: whether the argmax is the target (bool).

    A ``temperature`` that changes between calls is a scalar tensor, so that compiled code stays
    valid. Raises ValueError when a number is not positive.
    """
    if not isinstance(temperature, Tensor) and temperature <= 0:
        raise ValueError(f"temperature={temperature}: it divides the logits and must be positive")
    hidden_MD, weight_VD = _to_compute_dtype(hidden_MD, weight_VD)
    last_id = len(weight_VD) - 1
    weight_VD, bias_V = _aligned(weight_VD, bias_V)
    loss_M, sampled_M, correct_M = _apply(
        hidden_MD, weight_VD, bias_V, targets_M, uniform_M, temperature, _rows(chunk, weight_VD)
    )
    # Of NaN, no id is the first above anything; of an added one, NaN has as much as of others.
    return loss_M, sampled_M.clamp(max=last_id), correct_M


class _MaskedLM(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_MD: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor,
        targets_M: Tensor,
        uniform_M: Tensor,
        temperature: float | Tensor | None,
        chunk: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        kernels = selected_backend("auto", hidden_MD.device.type) == "triton"
        statistics = triton_masked_lm.row_statistics if kernels else _row_statistics
        if isinstance(temperature, float | int):
            if temperature == 1.0:
                temperature = None
            elif kernels:
                temperature = torch.full((), temperature, device=hidden_MD.device)
        parts = []
        for start in range(0, hidden_MD.shape[0], chunk):
            rows = slice(start, start + chunk)
            product_CV = hidden_MD[rows] @ weight_VD.T
            parts.append(
                statistics(product_CV, bias_V, targets_M[rows], uniform_M[rows], temperature)
            )
        normalizer_M, loss_M, sampled_M, best_M = (
            torch.cat(part) for part in zip(*parts, strict=True)
        )
        correct_M = best_M == targets_M
        ctx.save_for_backward(hidden_MD, weight_VD, bias_V, targets_M, normalizer_M)
        ctx.chunk, ctx.kernels = chunk, kernels
        ctx.mark_non_differentiable(correct_M, sampled_M)
        return loss_M, sampled_M, correct_M

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden_MD, weight_VD, bias_V, targets_M, normalizer_M = ctx.saved_tensors
        grad_loss_M = grads[0]
        wide = normalizer_M.dtype
        gradients = triton_masked_lm.row_gradients if ctx.kernels else _row_gradients
        grad_hidden_MD = torch.empty_like(hidden_MD)
        grad_weight_VD = torch.zeros_like(weight_VD, dtype=wide)
        grad_bias_V = torch.zeros_like(bias_V, dtype=wide)
        for start in range(0, hidden_MD.shape[0], ctx.chunk):
            rows = slice(start, start + ctx.chunk)
            product_CV = hidden_MD[rows] @ weight_VD.T
            grad_CV, grad_bias_of_rows_V = gradients(
                product_CV, bias_V, targets_M[rows], normalizer_M[rows], grad_loss_M[rows]
            )
            grad_bias_V += grad_bias_of_rows_V
            grad_hidden_MD[rows] = grad_CV @ weight_VD
            _add_product(grad_weight_VD, grad_CV.T, hidden_MD[rows])
        return (
            grad_hidden_MD,
            grad_weight_VD.to(weight_VD.dtype),
            grad_bias_V.to(bias_V.dtype),
            *(None,) * 4,
        )


_apply: Callable[..., tuple[Tensor, Tensor, Tensor]] = _MaskedLM.apply


def _rows(chunk: int | None, weight_VD: Tensor) -> int:
    """Return how many rows are taken at a time."""
    return chunk or max(1, (_GPU_CHUNK if weight_VD.is_cuda else _CPU_CHUNK) // len(weight_VD))


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add a product to a sum that may be wider than its factors."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total.add_(left @ right)


def _row_statistics(
    product_CV: Tensor,
    bias_V: Tensor,
    targets_C: Tensor,
    uniform_C: Tensor,
    temperature: float | Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Do what ``triton_masked_lm.row_statistics`` does; the product is overwritten in fp32."""
    logits_CV = _logits(product_CV, bias_V)
    top_C1, best_C1 = logits_CV.max(dim=1, keepdim=True)
    wanted_C1 = logits_CV.gather(1, targets_C[:, None])
    sampled_C = None
    if temperature is not None:
        sampled_C = _invert(_tempered(logits_CV, top_C1, temperature), uniform_C)
    mass_CV = logits_CV.sub_(top_C1).exp_()
    if sampled_C is None:
        sampled_C = _invert(mass_CV, uniform_C)
    normalizer_C1 = top_C1 + mass_CV.sum(dim=1, keepdim=True).log()
    loss_C1 = normalizer_C1 - wanted_C1
    return normalizer_C1[:, 0], loss_C1[:, 0], sampled_C, best_C1[:, 0]


def _row_gradients(
    product_CV: Tensor,
    bias_V: Tensor,
    targets_C: Tensor,
    normalizer_C: Tensor,
    grad_loss_C: Tensor,
) -> tuple[Tensor, Tensor]:
    """Do what ``triton_masked_lm.row_gradients`` does; the product is overwritten in fp32."""
    logits_CV = _logits(product_CV, bias_V)
    # d loss / d logits = softmax - one-hot.
    grad_CV = logits_CV.sub_(normalizer_C[:, None]).exp_()
    grad_CV.scatter_add_(1, targets_C[:, None], -torch.ones_like(normalizer_C[:, None]))
    grad_CV.mul_(grad_loss_C[:, None])
    return grad_CV.to(product_CV.dtype), grad_CV.sum(dim=0)


def _logits(product_CV: Tensor, bias_V: Tensor) -> Tensor:
    wide = torch.promote_types(product_CV.dtype, torch.float32)
    return product_CV.to(wide).add_(bias_V)


def _tempered(logits_CV: Tensor, top_C1: Tensor, temperature: float | Tensor) -> Tensor:
    return ((logits_CV - top_C1) / temperature).exp_()


def _invert(mass_CV: Tensor, uniform_C: Tensor) -> Tensor:
    """Return the smallest id whose share of the cumulative mass exceeds the uniform number.

    Searched in two steps, first a block of about sqrt(V) ids, then the id in it: sums over blocks
    cost one pass over the row where a cumulative sum of the whole row costs several.
    """
    vocabulary = mass_CV.shape[1]
    width = math.isqrt(vocabulary - 1) + 1
    whole = vocabulary // width * width
    block_mass_CX = mass_CV[:, :whole].unflatten(1, (-1, width)).sum(dim=2)
    rest_C1 = mass_CV[:, whole:].sum(dim=1, keepdim=True)
    reached_CX = torch.cat([block_mass_CX, rest_C1], dim=1).cumsum(dim=1)
    wanted_C1 = uniform_C[:, None].to(mass_CV.dtype) * reached_CX[:, -1:]
    block_C1 = _first_above(reached_CX, wanted_C1)

    before_CX = F.pad(reached_CX, (1, 0))
    wanted_C1 = (wanted_C1 - before_CX.gather(1, block_C1)).clamp_(min=0.0)
    ids_CX = block_C1 * width + torch.arange(width, device=mass_CV.device)
    inside_CX = mass_CV.gather(1, ids_CX.clamp(max=vocabulary - 1)) * (ids_CX < vocabulary)
    return (block_C1 * width + _first_above(inside_CX.cumsum(dim=1), wanted_C1))[:, 0]


def _first_above(reached_CX: Tensor, wanted_C1: Tensor) -> Tensor:
    """Return the first index whose value exceeds the wanted one, which rounding may put too high.

    Kept below the last value, the search always ends at an entry that has mass of its own. Among
    values that are NaN it ends behind the last one.
    """
    last_C1 = reached_CX[:, -1:]
    wanted_C1 = torch.minimum(wanted_C1, torch.nextafter(last_C1, torch.zeros_like(last_C1)))
    return torch.searchsorted(reached_CX, wanted_C1, right=True)


def _to_compute_dtype(hidden_MD: Tensor, weight_VD: Tensor) -> tuple[Tensor, Tensor]:
    """Bring both factors to the weight's dtype, or to autocast's where that is on."""
    device = hidden_MD.device.type
    dtype = (
        torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight_VD.dtype
    )
    return hidden_MD.to(dtype), weight_VD.to(dtype)


def _aligned(weight_VD: Tensor, bias_V: Tensor) -> tuple[Tensor, Tensor]:
    """On a GPU, make the vocabulary a size that its tensor cores take at full speed.

    An H200 multiplied by 30,522 columns, which is only even, at a tenth of its rate.
    """
    missing = -len(weight_VD) % _ALIGNMENT if weight_VD.is_cuda else 0
    return _with_impossible_ids(weight_VD, bias_V, missing) if missing else (weight_VD, bias_V)


def _with_impossible_ids(weight_VD: Tensor, bias_V: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Append ids of probability 0, which are never the argmax and never sampled."""
    return F.pad(weight_VD, (0, 0, 0, count)), F.pad(bias_V, (0, count), value=-math.inf)
