"""The local operators that can stand beside attention in a mixed-attention block.

Shapes: B rows, L positions, D hidden size, N heads, H head width, C = N * H bottleneck width,
K kernel taps. Every operator returns [B, L, C], one slice of H channels per head.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convbert.models.architecture import EncoderConfig
from convbert.models.ops.convolution import depthwise_conv, span_dynamic_conv


class LocalOperator(nn.Module, ABC):
    """The local half of a mixed-attention block.

    With ``has_own_value`` the block projects a value for the operator; without, the operator gets
    the attention's value and may ignore it.
    """

    has_own_value: ClassVar[bool] = True

    @abstractmethod
    def forward(
        self,
        hidden_BLD: Tensor,
        query_BLC: Tensor,
        value_BLC: Tensor,
        document_ids_BL: Tensor | None,
    ) -> Tensor:
        """Return the local heads [B, L, C]; with document ids nothing crosses a document."""

    def kernels(
        self, hidden_BLD: Tensor, query_BLC: Tensor, document_ids_BL: Tensor | None
    ) -> Tensor | None:
        """Return each head's weights of the neighbors [B, L, N, K], None where there are none."""
        return None


class _KernelOverValue(LocalOperator):
    """A softmax-normalized kernel per head, applied to the operator's own value."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.num_heads = config.local_heads
        self.kernel_size = config.conv_kernel_size

    @abstractmethod
    def kernel_logits(
        self, hidden_BLD: Tensor, query_BLC: Tensor, document_ids_BL: Tensor | None
    ) -> Tensor:
        """Return the kernel before its softmax, [B, L, N * K] with the taps innermost."""

    def forward(
        self,
        hidden_BLD: Tensor,
        query_BLC: Tensor,
        value_BLC: Tensor,
        document_ids_BL: Tensor | None,
    ) -> Tensor:
        """Return the convolved value [B, L, C]."""
        logits_BLNK = self._by_head(self.kernel_logits(hidden_BLD, query_BLC, document_ids_BL))
        value_BLNH = value_BLC.view(*logits_BLNK.shape[:3], -1)
        return span_dynamic_conv(value_BLNH, logits_BLNK, document_ids_BL).flatten(-2)

    def kernels(
        self, hidden_BLD: Tensor, query_BLC: Tensor, document_ids_BL: Tensor | None
    ) -> Tensor:
        """Return the kernels after their softmax [B, L, N, K]."""
        logits = self.kernel_logits(hidden_BLD, query_BLC, document_ids_BL)
        return self._by_head(logits).softmax(-1)

    def _by_head(self, logits: Tensor) -> Tensor:
        return logits.view(*logits.shape[:2], self.num_heads, self.kernel_size)


class SpanDynamicConv(_KernelOverValue):
    """Span-based dynamic convolution (ConvBERT, Jiang et al. 2020, section 3.2).

    The kernel of a position comes from its query times a span-aware key: a depthwise separable
    convolution over the block's input. The query enters unscaled and before the head split.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        width, bottleneck = config.hidden_size, config.bottleneck
        self.span_depthwise = nn.Parameter(torch.empty(width, 1, config.conv_kernel_size))
        self.span_pointwise = nn.Parameter(torch.empty(bottleneck, width))
        self.span_bias = nn.Parameter(torch.empty(bottleneck))
        self.kernel = nn.Linear(bottleneck, config.local_heads * config.conv_kernel_size)

    def kernel_logits(
        self, hidden_BLD: Tensor, query_BLC: Tensor, document_ids_BL: Tensor | None
    ) -> Tensor:
        """Return kernel(query * span-aware key)."""
        span_BLD = depthwise_conv(hidden_BLD, self.span_depthwise, document_ids_BL)
        span_key_BLC = F.linear(span_BLD, self.span_pointwise, self.span_bias)
        return self.kernel(query_BLC * span_key_BLC)


class DynamicConv(_KernelOverValue):
    """Dynamic convolution (Wu et al. 2019, section 4): the kernel comes from the token alone.

    It is generated from the block's query, so that the span-aware key is the only difference to
    ``SpanDynamicConv``.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        taps = config.local_heads * config.conv_kernel_size
        self.kernel = nn.Linear(config.bottleneck, taps)

    def kernel_logits(
        self, hidden_BLD: Tensor, query_BLC: Tensor, document_ids_BL: Tensor | None
    ) -> Tensor:
        """Return kernel(query)."""
        return self.kernel(query_BLC)


class LightweightConv(_KernelOverValue):
    """Lightweight convolution (Wu et al. 2019, section 3): one fixed kernel per head."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.kernel = nn.Parameter(torch.empty(config.local_heads, config.conv_kernel_size))

    def kernel_logits(
        self, hidden_BLD: Tensor, query_BLC: Tensor, document_ids_BL: Tensor | None
    ) -> Tensor:
        """Return the same kernel at every position."""
        batch, length, _ = hidden_BLD.shape
        return self.kernel.flatten().expand(batch, length, -1)


class ConventionalConv(LocalOperator):
    """A conventional convolution of the block's input, D to C channels, K taps, with bias."""

    has_own_value = False

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        taps = config.conv_kernel_size
        self.conv = nn.Conv1d(config.hidden_size, config.bottleneck, taps, padding=taps // 2)

    def forward(
        self,
        hidden_BLD: Tensor,
        query_BLC: Tensor,
        value_BLC: Tensor,
        document_ids_BL: Tensor | None,
    ) -> Tensor:
        """Return the convolved input [B, L, C]."""
        if document_ids_BL is None:
            return self.conv(hidden_BLD.transpose(1, 2)).transpose(1, 2)
        return self._within_documents(hidden_BLD, document_ids_BL)

    def _within_documents(self, hidden_BLD: Tensor, document_ids_BL: Tensor) -> Tensor:
        """Multiply by every tap in one product, then add up the taps of the own document."""
        channels, _, taps = self.conv.weight.shape
        (batch, length, _), margin = hidden_BLD.shape, taps // 2
        tap_weight = self.conv.weight.permute(2, 0, 1).flatten(0, 1)
        tapped = F.linear(hidden_BLD, tap_weight).view(batch, length, taps, channels)
        tapped = F.pad(tapped, (0, 0, 0, 0, margin, margin))
        documents = F.pad(document_ids_BL, (margin, margin))
        own_BL1 = document_ids_BL[..., None]
        out_BLC = self.conv.get_parameter("bias").expand(batch, length, channels)
        for tap in range(taps):
            seen = slice(tap, tap + length)
            inside_BL1 = (documents[:, seen, None] == own_BL1) & (own_BL1 != 0)
            out_BLC = out_BLC + tapped[:, seen, tap] * inside_BL1
        return out_BLC


# The operators by their configuration name; a name that is absent has no local half.
LOCAL_OPERATORS: dict[
    str, type[SpanDynamicConv | DynamicConv | LightweightConv | ConventionalConv]
] = {
    "sdconv": SpanDynamicConv,
    "dynamic": DynamicConv,
    "lightweight": LightweightConv,
    "conv": ConventionalConv,
}
