"""How parameters start: as in the original code, or as in transformers."""

from collections.abc import Callable

from torch import Tensor, nn

from convbert.models.architecture import EncoderConfig

Initializer = Callable[[Tensor], object]


def initialize(module: nn.Module, config: EncoderConfig) -> None:
    """Fill every parameter of ``module`` in place, by the scheme ``config.init``."""
    for name, parameter in module.named_parameters():
        _initializer(name, config)(parameter)


def _initializer(name: str, config: EncoderConfig) -> Initializer:
    """Return what fills the parameter ``name``."""
    sigma = config.initializer_range
    if name.endswith("bias"):
        return nn.init.zeros_
    if name.endswith("norm.weight"):
        return nn.init.ones_
    if config.init == "hf":
        table = name.endswith("word.weight")
        return _normal(sigma, empty_row=config.pad_token_id if table else None)
    if name.endswith("span_depthwise"):
        return _truncated_normal(1 / config.conv_kernel_size)
    if name.endswith(("project.weight", "prediction.weight")):
        # The layers to which the original code gives no initializer get TensorFlow's default.
        return nn.init.xavier_uniform_
    return _truncated_normal(sigma)


def _truncated_normal(sigma: float) -> Initializer:
    """Cut at two sigma, like TensorFlow's initializer of the same name."""
    return lambda tensor: nn.init.trunc_normal_(tensor, std=sigma, a=-2 * sigma, b=2 * sigma)


def _normal(sigma: float, empty_row: int | None) -> Initializer:
    """Leave one row at zero, as transformers does with the padding row of the word table."""

    def fill(tensor: Tensor) -> None:
        nn.init.normal_(tensor, std=sigma)
        if empty_row is not None:
            nn.init.zeros_(tensor[empty_row])

    return fill
