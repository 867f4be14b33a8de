"""The names and layouts that transformers and TensorFlow give to the parts of these models.

One walk over the model serves both: ``Dialect`` holds what differs. TensorFlow's names are those
of the released BERT, ELECTRA and ConvBERT code; transformers derives its own from them.
"""

from dataclasses import dataclass

from convbert.models.architecture import EncoderConfig
from convbert.models.errors import UserError
from convbert.models.interop.links import SAME, TRANSPOSED, Conversion, Link

_RELEASED_OPERATORS = ("sdconv", "none", "attention")


@dataclass(frozen=True)
class SpanKeyNames:
    """Where the span-aware key's three tensors are, below the attention module."""

    depthwise: str
    depthwise_conversion: Conversion
    pointwise: str
    pointwise_conversion: Conversion
    bias: str
    bias_conversion: Conversion


@dataclass(frozen=True)
class Dialect:
    """One program's way of naming and laying out parameters.

    ``joint`` joins the parts of a path; ``layer`` names layer number {}; ``table`` follows the
    name of an embedding table. Linear maps are stored [in, out] where ``linear`` says so.
    """

    joint: str
    layer: str
    table: str
    weight: str
    linear: Conversion
    norm: tuple[str, str]
    grouped: str
    span_key: SpanKeyNames
    local_kernel: str
    local_value: str

    def path(self, *parts: str) -> str:
        """Join the non-empty parts of a name."""
        return self.joint.join(part.replace("/", self.joint) for part in parts if part)

    def linear_links(self, own: str, *modules: str) -> list[Link]:
        """Link a linear map that consists of the rows of one or more foreign ones."""
        weights = tuple(self.path(module, self.weight) for module in modules)
        biases = tuple(self.path(module, "bias") for module in modules)
        return [Link(f"{own}.weight", weights, self.linear), Link(f"{own}.bias", biases)]

    def norm_links(self, own: str, module: str) -> list[Link]:
        """Link a layer norm."""
        scale, shift = (self.path(module, name) for name in self.norm)
        return [Link(f"{own}.weight", (scale,)), Link(f"{own}.bias", (shift,))]


TRANSFORMERS = Dialect(
    joint=".",
    layer="layer.{}",
    table=".weight",
    weight="weight",
    linear=SAME,
    norm=("weight", "bias"),
    grouped="dense",
    span_key=SpanKeyNames(
        depthwise="key_conv_attn_layer/depthwise/weight",
        depthwise_conversion=SAME,
        pointwise="key_conv_attn_layer/pointwise/weight",
        pointwise_conversion=Conversion(lambda t: t.squeeze(-1), lambda t: t.unsqueeze(-1)),
        bias="key_conv_attn_layer/bias",
        bias_conversion=Conversion(lambda t: t.squeeze(-1), lambda t: t.unsqueeze(-1)),
    ),
    local_kernel="conv_kernel_layer",
    local_value="conv_out_layer",
)

TENSORFLOW = Dialect(
    joint="/",
    layer="layer_{}",
    table="",
    weight="kernel",
    linear=TRANSPOSED,
    norm=("gamma", "beta"),
    grouped="g_dense",
    span_key=SpanKeyNames(
        depthwise="conv_attn_key/depthwise_kernel",
        depthwise_conversion=Conversion(lambda t: t.permute(1, 2, 0), lambda t: t.permute(2, 0, 1)),
        pointwise="conv_attn_key/pointwise_kernel",
        pointwise_conversion=Conversion(lambda t: t.squeeze(0).T, lambda t: t.T.unsqueeze(0)),
        bias="conv_attn_key/bias",
        bias_conversion=SAME,
    ),
    local_kernel="conv_attn_kernel",
    local_value="conv_attn_point",
)


def embedding_links(dialect: Dialect, scope: str = "") -> list[Link]:
    """Link the three tables and the layer norm of the embedding block found in ``scope``."""
    tables = {
        table: dialect.path(scope, "embeddings", f"{table}_embeddings") + dialect.table
        for table in ("word", "position", "token_type")
    }
    return [
        *(Link(f"embeddings.{table}.weight", (name,)) for table, name in tables.items()),
        *dialect.norm_links("embeddings.norm", dialect.path(scope, "embeddings/LayerNorm")),
    ]


def body_links(dialect: Dialect, config: EncoderConfig, scope: str = "") -> list[Link]:
    """Link an encoder without its embeddings, found in ``scope``.

    Raises ``UserError`` for a local operator that no released code has.
    """
    if config.local_op not in _RELEASED_OPERATORS:
        raise UserError(
            f"local_op={config.local_op} is in no released code, so its weights have no names "
            f"there: use one of {', '.join(_RELEASED_OPERATORS)}"
        )
    links = []
    if config.embedding_size != config.hidden_size:
        project = dialect.path(scope, "embeddings_project")
        links += dialect.linear_links("project", project)
    for index in range(config.num_layers):
        layer = dialect.path(scope, "encoder", dialect.layer.format(index))
        links += _attention_links(dialect, config, f"layers.{index}.attention", layer)
        links += _feedforward_links(dialect, config, f"layers.{index}.feedforward", layer)
    return links


def encoder_links(dialect: Dialect, config: EncoderConfig, scope: str = "") -> list[Link]:
    """Link a whole encoder found in ``scope``."""
    return [*embedding_links(dialect, scope), *body_links(dialect, config, scope)]


def _attention_links(dialect: Dialect, config: EncoderConfig, own: str, layer: str) -> list[Link]:
    block = dialect.path(layer, "attention/self")
    output = dialect.path(layer, "attention/output")
    projected = ["query", "key", "value"]
    local: list[Link] = []
    if config.local_op == "sdconv":
        projected.append(dialect.local_value)
        local = _span_dynamic_links(dialect, f"{own}.local", block)
    modules = [dialect.path(block, module) for module in projected]
    return [
        *dialect.linear_links(f"{own}.in_proj", *modules),
        *local,
        *dialect.linear_links(f"{own}.out_proj", dialect.path(output, "dense")),
        *dialect.norm_links(f"{own}.norm", dialect.path(output, "LayerNorm")),
    ]


def _span_dynamic_links(dialect: Dialect, own: str, block: str) -> list[Link]:
    names = dialect.span_key
    span_key = {
        "span_depthwise": (names.depthwise, names.depthwise_conversion),
        "span_pointwise": (names.pointwise, names.pointwise_conversion),
        "span_bias": (names.bias, names.bias_conversion),
    }
    return [
        *(
            Link(f"{own}.{parameter}", (dialect.path(block, name),), conversion)
            for parameter, (name, conversion) in span_key.items()
        ),
        *dialect.linear_links(f"{own}.kernel", dialect.path(block, dialect.local_kernel)),
    ]


def _feedforward_links(dialect: Dialect, config: EncoderConfig, own: str, layer: str) -> list[Link]:
    grouped = config.num_groups > 1
    dense = dialect.grouped if grouped else "dense"
    links = dialect.norm_links(f"{own}.norm", dialect.path(layer, "output/LayerNorm"))
    for ours, theirs in {"up": "intermediate", "down": "output"}.items():
        weight, bias = dialect.linear_links(f"{own}.{ours}", dialect.path(layer, theirs, dense))
        # Grouped weights are [G, in / G, out / G] everywhere.
        links += [Link(weight.own, weight.foreign) if grouped else weight, bias]
    return links


def discriminator_head_links(dialect: Dialect, last: str) -> list[Link]:
    """Link the discriminator's head; ``last`` is the name of its one-logit layer there."""
    scope = "discriminator_predictions"
    return [
        *dialect.linear_links("dense", dialect.path(scope, "dense")),
        *dialect.linear_links("prediction", dialect.path(scope, last)),
    ]


@dataclass(frozen=True)
class MaskedLMNames:
    """Where a masked-LM head keeps its dense layer with its norm, and its vocabulary bias.

    ``matrix`` is what a file calls the vocabulary matrix, if it is stored beside the word table.
    """

    transform: str
    bias: str
    matrix: str = ""


def masked_lm_head_links(dialect: Dialect, names: MaskedLMNames) -> list[Link]:
    """Link a masked-LM head; its vocabulary matrix is the word table and is not stored again."""
    return [
        *dialect.linear_links("dense", dialect.path(names.transform, "dense")),
        *dialect.norm_links("norm", dialect.path(names.transform, "LayerNorm")),
        Link("bias", (dialect.path(names.bias),)),
    ]
