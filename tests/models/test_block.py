"""The mixed-attention block and its parts against slow, independent definitions."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from convbert.models.attention import MixedAttention
from convbert.models.config import EncoderConfig
from convbert.models.feedforward import FeedForward, GroupedLinear


def make_block(config: EncoderConfig) -> MixedAttention:
    block = MixedAttention(config).double().eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.4)
    return block


def make_config(local_op: str, width: int, heads: int, ratio: int, taps: int) -> EncoderConfig:
    return EncoderConfig.model_validate(
        {
            "vocab_size": 8,
            "hidden_size": width,
            "embedding_size": width,
            "num_layers": 1,
            "num_heads": heads,
            "intermediate_size": width,
            "local_op": local_op,
            "head_ratio": ratio,
            "conv_kernel_size": taps,
        }
    )


def kernel_logits(
    block: MixedAttention, x_LD: Tensor, q_LC: Tensor, config: EncoderConfig
) -> Tensor:
    """Each operator's kernel before its softmax, [L, N, K], position by position."""
    length, taps, heads = x_LD.shape[0], config.conv_kernel_size, config.local_heads
    local = block.local
    rows = []
    for t in range(length):
        if config.local_op == "lightweight":
            rows.append(local.kernel)
            continue
        gate = torch.ones_like(q_LC[t])
        if config.local_op == "sdconv":
            span = torch.zeros_like(x_LD[t])
            for j in range(taps):
                s = t + j - (taps - 1) // 2
                if 0 <= s < length:
                    span = span + local.span_depthwise[:, 0, j] * x_LD[s]
            gate = local.span_pointwise @ span + local.span_bias
        rows.append((local.kernel.weight @ (q_LC[t] * gate) + local.kernel.bias).view(heads, taps))
    return torch.stack(rows)


def local_heads(
    block: MixedAttention, x_LD: Tensor, p: list[Tensor], config: EncoderConfig
) -> Tensor:
    """The second half of the block, [L, C], by loops over position, head and tap."""
    (length, _), taps, width = x_LD.shape, config.conv_kernel_size, config.head_dim
    out = torch.zeros(length, config.bottleneck, dtype=x_LD.dtype)
    if config.local_op == "conv":
        out = out + block.local.conv.bias
        for t, j in product(range(length), range(taps)):
            s = t + j - (taps - 1) // 2
            if 0 <= s < length:
                out[t] = out[t] + block.local.conv.weight[:, :, j] @ x_LD[s]
        return out
    weights = kernel_logits(block, x_LD, p[0], config).softmax(dim=-1)
    for t, n, j in product(range(length), range(config.local_heads), range(taps)):
        s = t + j - (taps - 1) // 2
        if 0 <= s < length:
            head = slice(n * width, (n + 1) * width)
            out[t, head] = out[t, head] + weights[t, n, j] * p[3][s, head]
    return out


def slow_block(block: MixedAttention, x_LD: Tensor, config: EncoderConfig) -> Tensor:
    width = config.head_dim
    projected = [
        x_LD @ w.T + b
        for w, b in zip(
            block.in_proj.weight.split(config.bottleneck),
            block.in_proj.bias.split(config.bottleneck),
            strict=True,
        )
    ]
    attended = []
    for n in range(config.local_heads):
        q, k, v = (part[:, n * width : (n + 1) * width] for part in projected[:3])
        attended.append((q @ k.T / math.sqrt(width)).softmax(dim=-1) @ v)
    heads = torch.cat(attended, dim=-1)
    if block.local is not None:
        heads = torch.cat([heads, local_heads(block, x_LD, projected, config)], dim=-1)
    summed = x_LD + heads @ block.out_proj.weight.T + block.out_proj.bias
    centerd = summed - summed.mean(dim=-1, keepdim=True)
    variance = centerd.square().mean(dim=-1, keepdim=True)
    scaled = centerd / (variance + config.layer_norm_eps).sqrt()
    return scaled * block.norm.weight + block.norm.bias


# (d, A, head_ratio): one head as in the small generator, heads lost to rounding, several left.
SHAPES = [(8, 1, 2), (8, 2, 4), (12, 3, 2), (16, 4, 2), (16, 4, 1)]
OPERATORS = ["sdconv", "dynamic", "lightweight", "conv", "none", "attention"]


@pytest.mark.parametrize("local_op", OPERATORS)
@pytest.mark.parametrize(("width", "heads", "ratio"), SHAPES)
def test_block_by_loops(local_op: str, width: int, heads: int, ratio: int) -> None:
    for taps, length in ((1, 3), (3, 7), (9, 5)):
        config = make_config(local_op, width, heads, ratio, taps)
        block = make_block(config)
        x_BLD = torch.randn(2, length, width, dtype=torch.float64)
        with torch.no_grad():
            expected = torch.stack([slow_block(block, row, config) for row in x_BLD])
            assert (block(x_BLD) - expected).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("local_op", "projections"),
    [("sdconv", 4), ("dynamic", 4), ("lightweight", 4), ("conv", 3), ("none", 3), ("attention", 3)],
)
def test_one_product_makes_all_projections(local_op: str, projections: int) -> None:
    block = make_block(make_config(local_op, 16, 4, 2, 3))
    bottleneck = 16 if local_op == "attention" else 8
    assert block.in_proj.weight.shape == (projections * bottleneck, 16)


@settings(max_examples=40, deadline=None)
@given(
    groups=st.integers(1, 4),
    slice_in=st.integers(1, 5),
    slice_out=st.integers(1, 5),
    shape=st.lists(st.integers(1, 4), max_size=3),
)
def test_grouped_linear_is_block_diagonal(
    groups: int, slice_in: int, slice_out: int, shape: list[int]
) -> None:
    grouped = GroupedLinear(groups * slice_in, groups * slice_out, groups).double()
    nn.init.normal_(grouped.weight)
    nn.init.normal_(grouped.bias)
    hidden = torch.randn(*shape, groups * slice_in, dtype=torch.float64)
    dense = torch.block_diag(*(weight.T for weight in grouped.weight))
    expected = F.linear(hidden, dense, grouped.bias)
    torch.testing.assert_close(grouped(hidden), expected, rtol=1e-12, atol=1e-12)


def test_groups_of_the_feed_forward_never_mix() -> None:
    config = make_config("sdconv", 16, 4, 2, 3).model_copy(update={"num_groups": 2})
    block = FeedForward(config).double().eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.4)
    x_BLD = torch.randn(1, 3, 16, dtype=torch.float64)
    other = x_BLD.clone()
    other[..., 8:] += 1.0

    def change(hidden: Tensor) -> Tensor:
        return block.down(F.gelu(block.up(hidden)))

    assert torch.equal(change(x_BLD)[..., :8], change(other)[..., :8])
    assert not torch.equal(change(x_BLD)[..., 8:], change(other)[..., 8:])
