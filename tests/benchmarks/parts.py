"""Where the time of a layer goes, and how near each part is to what the machine can do.

Every part runs alone, forward and backward, compiled as in training, at the shapes of one layer.
``bytes`` counts each operand and result once, as if nothing in between left the processor.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from convbert.models.attention import MixedAttention
from convbert.models.encoder import EncoderLayer
from convbert.models.feedforward import FeedForward
from convbert.models.ops.attention import attention
from convbert.models.ops.compilation import compile_for_training
from convbert.models.ops.convolution import depthwise_conv, span_dynamic_conv
from convbert.models.ops.dropout import Dropout
from tests.benchmarks.measuring import Comparison, Contender
from tests.benchmarks.suites import Setting, parameter_bytes


class _Call(nn.Module):
    """A function as a module, so that it is compiled like one."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


class _AddNorm(nn.Module):
    """What ends both halves of a layer."""

    def __init__(self, width: int, p: float) -> None:
        super().__init__()
        self.dropout = Dropout(p)
        self.norm = nn.LayerNorm(width)

    def forward(self, hidden: Tensor, change: Tensor) -> Tensor:
        return self.norm(hidden + self.dropout(change))


def parts(setting: Setting) -> Comparison:
    """The parts of one layer, the layer itself first."""
    config = setting.config
    batch, length, width = setting.batch, setting.length, config.hidden_size
    heads, head, taps = config.local_heads, config.head_dim, config.conv_kernel_size
    rows, inner = setting.tokens, config.intermediate_size
    block = MixedAttention(config)
    hidden = setting.random(batch, length, width)
    per_head = [setting.random(batch, heads, length, head) for _ in range(3)]
    value = setting.random(batch, length, heads, head)
    logits = setting.random(batch, length, heads, taps)
    filters = setting.random(width, 1, taps)
    mixed = setting.random(batch, length, config.concat_width)

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return attention(query, key, value, None, config.attention_dropout)

    wide = block.in_proj.out_features
    # Forward and backward together are three products; two operations a multiply-add.
    entries: list[tuple[str, nn.Module, Sequence[Tensor], float]] = [
        ("the layer", EncoderLayer(config), [hidden], 0.0),
        (
            "feed-forward with GELU, dropout, norm",
            FeedForward(config),
            [hidden],
            12 * rows * width * inner / config.num_groups,
        ),
        ("q, k, v, conv value in one product", block.in_proj, [hidden], 6 * rows * width * wide),
        ("attention", _Call(attend), per_head, 12 * rows * length * heads * head),
        (
            "output product",
            block.out_proj,
            [mixed],
            6 * rows * config.concat_width * width,
        ),
        ("dynamic convolution", _Call(span_dynamic_conv), [value, logits], 0.0),
        ("depthwise convolution of the span key", _Call(depthwise_conv), [hidden, filters], 0.0),
        (
            "pointwise product of the span key",
            nn.Linear(width, config.bottleneck),
            [hidden],
            6 * rows * width * config.bottleneck,
        ),
        ("dropout, sum and norm", _AddNorm(width, config.hidden_dropout), [hidden, hidden], 0.0),
    ]
    contenders = [_contender(setting, *entry) for entry in entries]
    title = "one layer and its parts, each alone, forward + backward"
    return Comparison(title, setting.tokens, contenders, rivals=False)


def _contender(
    setting: Setting, name: str, module: nn.Module, inputs: Sequence[Tensor], flops: float
) -> Contender:
    module = setting.place(module)
    with torch.no_grad():
        out = module(*inputs)
    upstream = torch.randn_like(out)
    compile_for_training(module)
    wanted = [*inputs, *module.parameters()]

    def run() -> None:
        torch.autograd.grad(module(*inputs), wanted, upstream)

    # Inputs, parameters and results cross memory forward; backward they and all gradients do.
    crossing = sum(t.numel() * t.element_size() for t in inputs) + parameter_bytes(module)
    crossing = 3 * crossing + 2 * out.numel() * out.element_size()
    return Contender(name, run, parameter_bytes(module), flops=flops, bytes=crossing)
