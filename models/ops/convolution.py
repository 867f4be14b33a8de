"""The local mixers of ConvBERT: one interface, several backends.

Shape suffixes: B batch, L length, D channels, N heads, H head width, K taps (odd).
"""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, Protocol, cast

from torch import Tensor

BackendName = Literal["auto", "reference"]

BACKEND_VARIABLE = "CONVBERT_OPS_BACKEND"

_MODULES = {"reference": "convbert.models.ops.reference"}
_override: ContextVar[str | None] = ContextVar("convbert_ops_backend", default=None)


class Backend(Protocol):
    """What a backend module provides."""

    def span_dynamic_conv(
        self, value_BLNH: Tensor, logits_BLNK: Tensor, document_ids_BL: Tensor | None
    ) -> Tensor:
        """See ``convolution.span_dynamic_conv``."""

    def depthwise_conv(
        self, x_BLD: Tensor, weight_D1K: Tensor, document_ids_BL: Tensor | None
    ) -> Tensor:
        """See ``convolution.depthwise_conv``."""


def span_dynamic_conv(
    value_BLNH: Tensor,
    logits_BLNK: Tensor,
    document_ids_BL: Tensor | None = None,
    *,
    backend: BackendName = "auto",
) -> Tensor:
    """Mix each position with its neighbours by weights that the position itself produced.

    ``out[b, t, n] = sum_j softmax(logits[b, t, n])[j] * value[b, t + j - (K - 1) / 2, n]`` with
    zeros outside the row and outside the document of ``t``; the weights are not renormalised
    there. Sums are taken in at least float32; the result has the dtype of the value.
    Span-based dynamic convolution, ConvBERT (Jiang et al. 2020), section 3.2.

    Raises ValueError when K is even: such a window has no centre.
    """
    _require_odd(logits_BLNK.shape[-1])
    return _backend(backend, value_BLNH).span_dynamic_conv(value_BLNH, logits_BLNK, document_ids_BL)


def depthwise_conv(
    x_BLD: Tensor,
    weight_D1K: Tensor,
    document_ids_BL: Tensor | None = None,
    *,
    backend: BackendName = "auto",
) -> Tensor:
    """Cross-correlate each channel with its own K taps, without bias.

    Zeros stand in for positions outside the row and outside the document of the centre. It is the
    depthwise half of the span key in ConvBERT (Jiang et al. 2020), section 3.2.

    Raises ValueError when K is even.
    """
    _require_odd(weight_D1K.shape[-1])
    return _backend(backend, x_BLD).depthwise_conv(x_BLD, weight_D1K, document_ids_BL)


@contextmanager
def use_backend(name: BackendName) -> Iterator[None]:
    """Run the enclosed calls that say ``auto`` on the named backend."""
    token = _override.set(name)
    try:
        yield
    finally:
        _override.reset(token)


def _require_odd(taps: int) -> None:
    if taps % 2 == 0:
        raise ValueError(f"the convolution kernel has {taps} taps, an odd number is needed")


def _backend(name: str, x: Tensor) -> Backend:
    if name == "auto":
        name = _override.get() or os.environ.get(BACKEND_VARIABLE, "auto")
    return cast(Backend, importlib.import_module(_MODULES.get(name, _MODULES["reference"])))
