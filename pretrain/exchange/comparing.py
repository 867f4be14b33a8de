"""Whether imported networks compute what a configuration says, and what may be adapted.

Tensors can have equal shapes and mean different things: other head counts, another epsilon,
padding that leaks into the convolution. So configurations are compared, not shapes.
"""

from collections.abc import Collection
from typing import Any

from convbert.models.architecture import EncoderConfig
from convbert.models.errors import UserError
from convbert.pretrain.settings.model import Adaptation

# Fields that decide what a network computes from its weights.
_SHAPE = (
    "local_op",
    "hidden_size",
    "embedding_size",
    "intermediate_size",
    "num_groups",
    "type_vocab_size",
    "layer_norm_eps",
    "pad_token_id",
)
# What can be adapted, by the name in model.adapt. Only depth has a direction.
_ADAPTABLE: dict[str, Adaptation] = {
    "num_layers": "layers",
    "max_positions": "positions",
    "vocab_size": "vocabulary",
    "mask_conv_padding": "padding",
}


def differences(theirs: EncoderConfig, ours: EncoderConfig) -> dict[str, tuple[Any, Any]]:
    """Return the fields in which two encoders compute differently, with both values.

    Fields without effect do not count: those of mixed attention where there is none, dropout, and
    how weights are initialized. ``head_rule`` counts where it changes the width of a head.
    """
    keys = list(_SHAPE)
    if (theirs.local_heads, theirs.head_dim) != (ours.local_heads, ours.head_dim):
        keys += ["num_heads", "head_ratio", "head_rule"]
    if theirs.local_op == ours.local_op and ours.local_op not in ("none", "attention"):
        keys += ["conv_kernel_size", "mask_conv_padding"]
    keys += [key for key in _ADAPTABLE if key != "mask_conv_padding"]
    pairs = {key: (getattr(theirs, key), getattr(ours, key)) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def require_same(
    network: str,
    theirs: EncoderConfig,
    ours: EncoderConfig,
    adapt: Collection[Adaptation],
    place: object,
) -> None:
    """Raise ``UserError`` unless both compute the same, but for what may be adapted.

    ``network`` is the discriminator, generator or encoder. Names every difference, what to set, and
    which of them ``model.adapt`` could adapt.
    """
    found = differences(theirs, ours)
    names = {key: _ADAPTABLE[key] for key in found if key in _ADAPTABLE}
    if ours.num_layers > theirs.num_layers:
        del names["num_layers"]  # there is nothing to make more layers of
    found = {key: pair for key, pair in found.items() if names.get(key) not in adapt}
    if not found:
        return
    said = ", ".join(f"{key}={pair[0]!r} (here {pair[1]!r})" for key, pair in found.items())
    remedy = _GENERATORS if network == "generator" else _remedy(found)
    adaptable = [names[key] for key in found if key in names]
    if adaptable:
        remedy += f"; or adapt it: model.adapt=[{', '.join([*adapt, *adaptable])}]"
    raise UserError(f"{place}: its {network} has {said}: {remedy}")


_GENERATORS = (
    "set model.overrides' generator_size and generator_depth to those of its own, or start with a "
    "fresh one (model.adapt=[generator])"
)


def _remedy(found: dict[str, tuple[Any, Any]]) -> str:
    settable = [f"{key}: {_yaml(pair[0])}" for key, pair in found.items() if key != "vocab_size"]
    # In the quotes that a shell needs, for whoever copies it.
    parts = [f"set 'model.overrides={{{', '.join(settable)}}}'"] if settable else []
    if "vocab_size" in found:
        parts.append("use the tokenizer that it was trained with")
    return " and ".join(parts)


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
