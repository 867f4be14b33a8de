"""Which parameters are hidden matrices, and what matrices they are made of."""

import math
import re
from dataclasses import dataclass
from functools import lru_cache

from torch import nn

from convbert.models.architecture import PretrainingConfig
from convbert.models.attention import MixedAttention
from convbert.models.feedforward import GroupedLinear
from convbert.models.pretraining import build_model
from convbert.models.shapes import shapes_alone

_IN_A_LAYER = re.compile(r"(^|\.)layers\.")
# Filters and the maps that make them: rows of nine taps, not maps from width to width.
_FILTERS = re.compile(r"\.(span_depthwise|kernel(\.weight)?)$")


@dataclass(frozen=True)
class MatrixShape:
    """A parameter as ``blocks`` matrices of ``rows`` x ``columns``, in its order in memory.

    ``scale`` multiplies an orthogonal update: the root of outputs over inputs, at least 1.
    """

    blocks: int
    rows: int
    columns: int
    scale: float

    @property
    def cost(self) -> int:
        """Return what orthogonalizing it costs, in multiplications of one product."""
        return self.blocks * self.rows * self.columns * min(self.rows, self.columns)


def _shape(module: nn.Module, name: str, parameter: nn.Parameter) -> MatrixShape:
    if isinstance(module, GroupedLinear):
        groups, inputs, outputs = parameter.shape
        return MatrixShape(groups, inputs, outputs, math.sqrt(max(1.0, outputs / inputs)))
    outputs, inputs = parameter.shape[0], parameter[0].numel()
    blocks = 1
    if isinstance(module, MixedAttention) and name == "in_proj.weight":
        blocks = module.projections  # query, key and value are maps of their own
        outputs //= blocks
    return MatrixShape(blocks, outputs, inputs, math.sqrt(max(1.0, outputs / inputs)))


def hidden_matrices(module: nn.Module) -> dict[str, MatrixShape]:
    """Find the matrices of the encoder layers that map one hidden state to another, by name.

    Embeddings and their projection, heads, norms, biases, depthwise filters and what generates
    kernels are not among them.
    """
    found: dict[str, MatrixShape] = {}
    for prefix, owner in module.named_modules():
        names = ["in_proj.weight"] if isinstance(owner, MixedAttention) else []
        names += [name for name, _ in owner.named_parameters(recurse=False)]
        for name in names:
            full = f"{prefix}.{name}"
            parameter = owner.get_parameter(name)
            hidden = _IN_A_LAYER.search(full) and not _FILTERS.search(full)
            if hidden and parameter.dim() > 1 and parameter.requires_grad:
                found.setdefault(full, _shape(owner, name, parameter))
    return found


@lru_cache
def matrix_elements(config: PretrainingConfig) -> int:
    """Return how many parameters of a pretraining run lie in its hidden matrices."""
    with shapes_alone():
        found = hidden_matrices(build_model(config))
    return sum(shape.blocks * shape.rows * shape.columns for shape in found.values())
