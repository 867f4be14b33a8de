"""A fused piece of a layer beside what it replaced, forward and backward."""

import torch
from torch import Tensor, nn

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
