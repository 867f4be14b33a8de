"""A fused piece of a layer beside what it replaced, forward and backward."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from convbert.models.masking import document_bias
from convbert.models.ops.attention import attention, document_attention, reads_documents
from convbert.models.ops.compilation import compile_for_training
from convbert.models.ops.dropout import Dropout
from tests.benchmarks.measuring import Comparison, Contender
from tests.benchmarks.suites import Setting


class _Norm(nn.Module):
    """What ends both halves of a layer."""

    def __init__(self, width: int, dropout: nn.Module) -> None:
        super().__init__()
        self.dropout = dropout
        self.norm = nn.LayerNorm(width)

    def forward(self, hidden: Tensor, change: Tensor) -> Tensor:
        return self.norm(hidden + self.dropout(change))


def dropout(setting: Setting) -> Comparison:
    """Dropout, sum and norm, compiled as in training, with Philox's and with hashed numbers."""
    config = setting.config
    width, p = config.hidden_size, config.hidden_dropout
    hidden, change = (setting.random(setting.tokens, width) for _ in range(2))
    upstream = setting.random(setting.tokens, width, grad=False)
    contenders = []
    for name, layer in {"Philox": nn.Dropout(p), "hashed": Dropout(p)}.items():
        module = setting.place(_Norm(width, layer))
        compile_for_training(module, cuda_graphs=setting.device == "cuda")

        def run(module: nn.Module = module) -> None:
            torch.autograd.grad(module(hidden, change), (hidden, change), upstream)

        contenders.append(Contender(name, run))
    return Comparison(f"dropout {p}, sum and norm", setting.tokens, contenders)


def attending(setting: Setting) -> Comparison:
    """Attention inside documents: with a bias of [B, L, L], and by kernels that read the ids."""
    config = setting.config
    batch, length, heads, p = setting.batch, setting.length, config.local_heads, 0.1
    shape = batch, length, heads, config.head_dim
    parts = [setting.random(*shape) for _ in range(3)]
    upstream = setting.random(*shape, grad=False)
    # Rows of one, of two and of many documents, and their padding, as `--packing` makes them.
    begins = torch.rand(batch, length, device=setting.device) < 2 / length
    ids = 1 + begins.long().cumsum(1)
    ids[:, length - length // 16 :] = 0
    bias = document_bias(ids, parts[0].dtype)

    def biased(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        by_head = (part.transpose(1, 2) for part in (query, key, value))
        return attention(*by_head, bias, p).transpose(1, 2)

    def by_ids(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return document_attention(query, key, value, ids, p)

    found = {"with a bias": biased}
    if reads_documents(parts[0], config.head_dim):
        found["by ids"] = by_ids
    contenders = []
    for name, function in found.items():
        compiled = torch.compile(function, dynamic=False)

        def run(function: Callable[..., Tensor] = compiled) -> None:
            torch.autograd.grad(function(*parts), parts, upstream)

        contenders.append(Contender(name, run))
    return Comparison(f"attention inside documents, dropout {p}", setting.tokens, contenders)
