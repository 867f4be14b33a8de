"""How parameters start: as in the original code, or as in transformers."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from convbert.models.config import EncoderConfig

Initializer = Callable[[Tensor], object]


def _truncated_normal(sigma: float) -> Initializer:
    """Cut at two sigma, like TensorFlow's initializer of the same name."""
    return lambda tensor: nn.init.trunc_normal_(tensor, std=sigma, a=-2 * sigma, b=2 * sigma)


def _normal(sigma: float) -> Initializer:
    return lambda tensor: nn.init.normal_(tensor, std=sigma)


def _normal_without_padding(sigma: float, pad_token_id: int) -> Initializer:
    """transformers starts the padding row of the word table at zero."""

    def fill(table_VE: Tensor) -> None:
        nn.init.normal_(table_VE, std=sigma)
        nn.init.zeros_(table_VE[pad_token_id])

    return fill


@dataclass(frozen=True)
class _Scheme:
    """The default for weights, and the exceptions by the end of the parameter's name."""

    weight: Initializer
    exceptions: dict[str, Initializer]

    def initializer(self, name: str) -> Initializer:
        if name.endswith("bias"):
            return nn.init.zeros_
        if name.endswith("norm.weight"):
            return nn.init.ones_
        for suffix, initializer in self.exceptions.items():
            if name.endswith(suffix):
                return initializer
        return self.weight


def _scheme(config: EncoderConfig) -> _Scheme:
    sigma = config.initializer_range
    if config.init == "hf":
        word = _normal_without_padding(sigma, config.pad_token_id)
        return _Scheme(_normal(sigma), {"word.weight": word})
    return _Scheme(
        _truncated_normal(sigma),
        {
            "span_depthwise": _truncated_normal(1 / config.conv_kernel_size),
            # The layers to which the original code gives no initializer get TensorFlow's default.
            "project.weight": nn.init.xavier_uniform_,
            "prediction.weight": nn.init.xavier_uniform_,
        },
    )


def initialize(module: nn.Module, config: EncoderConfig) -> None:
    """Fill every parameter of ``module`` in place, by the scheme ``config.init``."""
    scheme = _scheme(config)
    for name, parameter in module.named_parameters():
        scheme.initializer(name)(parameter)
