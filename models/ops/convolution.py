"""The local mixers of ConvBERT: one interface, several backends.

The backend is the argument of the call, or that of ``use_backend``, or that of the environment
variable ``CONVBERT_OPS_BACKEND``, or the fastest that runs on the device, in this order. A compiled
model keeps the backend it was traced with.

Shape suffixes: B batch, L length, D channels, N heads, H head width, K taps (odd).
"""

import functools
import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from convbert.models.errors import UserError
from convbert.models.ops import reference, slices, triton_ops

BackendName = Literal["auto", "reference", "eager", "compiled", "triton"]

BACKEND_VARIABLE = "CONVBERT_OPS_BACKEND"


@dataclass(frozen=True)
class OperatorBackend:
    """One implementation of both operators; the arguments are those of the public functions."""

    span_dynamic_conv: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    depthwise_conv: Callable[[Tensor, Tensor, Tensor | None], Tensor]


def _compiled(operator: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the operator, compiled on its own for callers that run eagerly.

    Inside a graph that is being compiled it is traced as it is, with the rest of the graph.
    """

    def call(*tensors: Tensor | None) -> Tensor:
        return (operator if torch.compiler.is_compiling() else _compile(operator))(*tensors)

    return call


@functools.cache
def _compile(operator: Callable[..., Tensor]) -> Callable[..., Any]:
    return torch.compile(operator)


BACKENDS = {
    "reference": OperatorBackend(reference.span_dynamic_conv, reference.depthwise_conv),
    "eager": OperatorBackend(slices.span_dynamic_conv, slices.depthwise_conv),
    "compiled": OperatorBackend(
        _compiled(slices.span_dynamic_conv), _compiled(slices.depthwise_conv)
    ),
    "triton": OperatorBackend(triton_ops.span_dynamic_conv, triton_ops.depthwise_conv),
}

_override: ContextVar[str] = ContextVar("convbert_ops_backend", default="auto")


def span_dynamic_conv(
    value_BLNH: Tensor,
    logits_BLNK: Tensor,
    document_ids_BL: Tensor | None = None,
    *,
    backend: BackendName = "auto",
) -> Tensor:
    """Return each position's neighbors, mixed by weights that the position itself produced.

    ``out[b, t, n] = sum_j softmax(logits[b, t, n])[j] * value[b, t + j - (K - 1) / 2, n]`` with
    zeros outside the row and outside the document of ``t`` (id 0 is padding, no document); the
    weights are not renormalized there. Sums are taken in at least float32 and the result has the
    dtype of the value. Span-based dynamic convolution, ConvBERT (Jiang et al. 2020), section 3.2.

    Raises ValueError when K is even: such a window has no center.
    """
    _require_odd(logits_BLNK.shape[-1])
    chosen = BACKENDS[selected_backend(backend, value_BLNH.device.type)]
    return chosen.span_dynamic_conv(value_BLNH, logits_BLNK, document_ids_BL)


def depthwise_conv(
    x_BLD: Tensor,
    weight_D1K: Tensor,
    document_ids_BL: Tensor | None = None,
    *,
    backend: BackendName = "auto",
) -> Tensor:
    """Return each channel cross-correlated with its own K taps, without bias.

    Zeros stand in for positions outside the row and outside the document of the center. It is the
    depthwise half of the span key in ConvBERT (Jiang et al. 2020), section 3.2. Sums are taken in
    at least float32 and the result has the dtype of the input.

    Raises ValueError when K is even.
    """
    _require_odd(weight_D1K.shape[-1])
    chosen = BACKENDS[selected_backend(backend, x_BLD.device.type)]
    return chosen.depthwise_conv(x_BLD, weight_D1K, document_ids_BL)


@contextmanager
def use_backend(name: BackendName) -> Iterator[None]:
    """Run the enclosed calls that name no backend on this one."""
    token = _override.set(name)
    try:
        yield
    finally:
        _override.reset(token)


def selected_backend(requested: str, device_type: str) -> str:
    """Return the name of the backend that a call runs on.

    On the CPU the slices run as they are: a compiled model fuses them, and an eager one does not
    wait for the compiler. On a GPU the Triton kernels run where Triton is installed. Raises
    ``UserError`` for an unknown backend and for one that cannot run here.
    """
    runs_triton = _runs_triton(device_type)
    named = (requested, _override.get(), os.environ.get(BACKEND_VARIABLE, "auto"))
    name = next((name for name in named if name != "auto"), None)
    if name is None:
        return "triton" if device_type == "cuda" and runs_triton else "eager"
    if name not in BACKENDS:
        known = ", ".join(BACKENDS)
        raise UserError(f"{BACKEND_VARIABLE}: no operator backend {name!r}, use one of {known}")
    if name == "triton" and not runs_triton:
        raise UserError(
            f"{BACKEND_VARIABLE}: operator backend 'triton' cannot run on {device_type}, "
            "install triton and use a GPU, or choose 'eager'"
        )
    return name


# What torch.compiler.assume_constant_result does, which first loads the compiler: two seconds.
selected_backend._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _runs_triton(device_type: str) -> bool:
    """Return whether Triton is installed and compiles for the device or interprets its kernels."""
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    return _triton_installed() and (device_type == "cuda" or interpreted)


@functools.cache
def _triton_installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def _require_odd(taps: int) -> None:
    if taps % 2 == 0:
        raise ValueError(f"the convolution kernel has {taps} taps, an odd number is needed")
