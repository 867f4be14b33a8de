"""Shapes and behavior of an encoder and of a pretraining pair, checked before one is built."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from convbert.models.schema import StrictModel

LocalOp = Literal["sdconv", "dynamic", "lightweight", "conv", "none", "attention"]
HeadRule = Literal["original", "hf"]
InitScheme = Literal["original", "hf"]
ObjectiveName = Literal["rtd", "mlm"]
EmbeddingTying = Literal[True, False, "gdes"]
Probability = Annotated[float, Field(ge=0.0, lt=1.0)]

# These keep the block's second half empty: nothing is concatenated to the attention heads.
_WITHOUT_LOCAL_HALF = frozenset({"none", "attention"})


class EncoderConfig(StrictModel):
    """Shape and behavior of one encoder.

    ``num_heads`` is the unreduced number of heads A. Mixed attention (ConvBERT, Jiang et al. 2020,
    section 3.3) keeps N = A // head_ratio of them for attention and gives the local operator as
    many. ``local_op`` names that operator; ``attention`` is the plain block of BERT and ELECTRA,
    for which ``head_ratio``, ``head_rule`` and ``conv_kernel_size`` have no effect.

    ``head_rule`` sets the width of a head: ``original`` keeps d / A as the authors' code does,
    ``hf`` splits d over the 2N heads as transformers does. The two agree when A >= head_ratio = 2
    and head_ratio divides A.

    ``mask_conv_padding`` keeps the local operator inside a document: padding and neighboring
    documents read as zeros. Switched off, padding leaks into the last (K - 1) / 2 tokens of a row,
    as in the training of the released weights: off for those, on for everything pretrained here.
    """

    vocab_size: PositiveInt
    hidden_size: PositiveInt = Field(
        description="width of the hidden states, numbers per token", examples=[512]
    )
    embedding_size: PositiveInt = Field(
        description="width of the token embeddings, numbers per token", examples=[128]
    )
    num_layers: PositiveInt = Field(description="number of layers", examples=[6])
    num_heads: PositiveInt = Field(
        description="number of attention heads before head_ratio divides it", examples=[8]
    )
    intermediate_size: PositiveInt = Field(
        description="width of the feed-forward layers, numbers per token; four times hidden_size "
        "unless given",
        examples=[2048],
    )
    local_op: LocalOp = Field(
        "sdconv",
        description="what stands beside attention: ConvBERT's span kernel (sdconv), others, "
        "nothing (none); attention: a plain BERT block",
    )
    head_ratio: PositiveInt = Field(
        2, description="factor by which mixed attention reduces the heads"
    )
    conv_kernel_size: PositiveInt = Field(
        9, description="tokens that the local operator sees, an odd number", examples=[5]
    )
    num_groups: PositiveInt = Field(
        1, description="number of groups that feed-forward layers are cut into", examples=[2]
    )
    head_rule: HeadRule = Field(
        "original",
        description="width of a head: original as in the authors' code, hf as in transformers",
    )
    max_positions: PositiveInt = Field(
        512, description="tokens of the longest row", examples=[1024]
    )
    type_vocab_size: PositiveInt = Field(2, description="number of segment ids")
    hidden_dropout: Probability = Field(
        0.1, description="share of hidden values that are dropped in training", examples=[0.0]
    )
    attention_dropout: Probability = Field(
        0.1, description="share of attention weights that are dropped in training", examples=[0.0]
    )
    layer_norm_eps: float = Field(
        1e-12, gt=0.0, description="number added to the variance in layer norms"
    )
    initializer_range: float = Field(
        0.02, gt=0.0, description="standard deviation of initial weights, a number"
    )
    init: InitScheme = Field(
        "original",
        description="rule for initial weights: original as in the authors' code, hf as in "
        "transformers",
    )
    mask_conv_padding: bool = Field(
        True,
        description="hide padding and neighboring documents from the local operator; off for "
        "released weights",
    )
    pad_token_id: int = Field(0, ge=0, description="number of the padding token")

    @property
    def local_heads(self) -> int:
        """N: the attention heads that are left, and as many for the local operator."""
        if self.local_op == "attention":
            return self.num_heads
        return max(1, self.num_heads // self.head_ratio)

    @property
    def head_dim(self) -> int:
        """H: the width of one head."""
        if self.local_op != "attention" and self.head_rule == "hf":
            return self.hidden_size // self.local_heads // 2
        return self.hidden_size // self.num_heads

    @property
    def bottleneck(self) -> int:
        """The width N * H of the query, key and value of either half."""
        return self.local_heads * self.head_dim

    @property
    def concat_width(self) -> int:
        """The input width of the block's output projection."""
        halves = 1 if self.local_op in _WITHOUT_LOCAL_HALF else 2
        return halves * self.bottleneck

    @model_validator(mode="after")
    def _refuse_nonsense(self) -> Self:
        if self.conv_kernel_size % 2 == 0:
            raise ValueError(
                f"conv_kernel_size={self.conv_kernel_size} is even and has no center: "
                f"use {self.conv_kernel_size - 1} or {self.conv_kernel_size + 1}"
            )
        self._refuse_remainder("hidden_size", "num_groups", self.num_groups)
        self._refuse_remainder("intermediate_size", "num_groups", self.num_groups)
        if self.local_op == "attention" or self.head_rule == "original":
            self._refuse_remainder("hidden_size", "num_heads", self.num_heads)
        else:
            self._refuse_remainder(
                "hidden_size", "twice the reduced number of heads", 2 * self.local_heads
            )
        if self.pad_token_id >= self.vocab_size:
            raise ValueError(
                f"pad_token_id={self.pad_token_id} lies outside the vocabulary: "
                f"use an id below vocab_size={self.vocab_size}"
            )
        return self

    def _refuse_remainder(self, key: str, divisor_name: str, divisor: int) -> None:
        value = getattr(self, key)
        if value % divisor:
            raise ValueError(
                f"{key}={value} is not divisible by {divisor_name}={divisor}: "
                f"use a multiple of {divisor} such as {(value // divisor + 1) * divisor}"
            )


class PretrainingConfig(StrictModel):
    """The networks of one pretraining run.

    ``rtd`` trains a generator and a discriminator on replaced tokens (ELECTRA, Clark et al. 2020);
    ``mlm`` trains one encoder as BERT does. ``discriminator`` is the encoder that is kept, for
    either objective. With ``tie_embeddings`` the generator reads the discriminator's whole
    embedding block, layer norm included; ``gdes`` (gradient-disentangled embedding sharing,
    DeBERTaV3, He et al. 2021) makes the discriminator's tables those of the generator plus
    differences of its own, through which alone it learns. With ``tie_encoders`` both are one
    encoder with two heads, which needs equal sizes (section 3.2 of ELECTRA's paper): an update
    costs more than with a small generator, but the encoder that is kept learns from the masked-LM
    loss too, which matters where there is little text.
    """

    objective: ObjectiveName = Field(
        "rtd", description="rtd: replaced tokens, with a generator; mlm: masked tokens, as BERT"
    )
    discriminator: EncoderConfig
    generator: EncoderConfig | None = None
    tie_embeddings: EmbeddingTying = Field(
        True,
        description="share the embeddings of generator and discriminator; gdes: the discriminator "
        "adds differences of its own",
    )
    tie_encoders: bool = Field(
        False, description="one encoder with two heads in place of two; helps where text is scarce"
    )

    @model_validator(mode="after")
    def _refuse_mismatched_networks(self) -> Self:
        if self.objective == "mlm":
            if self.generator is not None:
                raise ValueError("objective=mlm trains one encoder: leave generator out")
            if self.tie_encoders:
                raise ValueError("objective=mlm trains one encoder: leave tie_encoders out")
            if self.tie_embeddings == "gdes":
                raise ValueError("objective=mlm trains one encoder: leave tie_embeddings out")
            return self
        if self.generator is None:
            raise ValueError("objective=rtd needs a generator: give one, or use objective=mlm")
        self._refuse_difference(self.generator, "vocab_size", "")
        self._refuse_difference(self.generator, "pad_token_id", "")
        apart = self.generator != self.discriminator or self.tie_embeddings == "gdes"
        if self.tie_encoders and apart:
            raise ValueError(
                "tie_encoders=true makes generator and discriminator one encoder: use "
                "generator_size=1, generator_depth=1 and tie_embeddings=true"
            )
        if self.tie_embeddings:
            for key in ("embedding_size", "max_positions", "type_vocab_size", "layer_norm_eps"):
                self._refuse_difference(self.generator, key, ", or set tie_embeddings=false")
        return self

    def _refuse_difference(self, generator: EncoderConfig, key: str, or_else: str) -> None:
        kept, given = getattr(self.discriminator, key), getattr(generator, key)
        if kept != given:
            raise ValueError(
                f"generator.{key}={given} differs from discriminator.{key}={kept}: "
                f"make them equal{or_else}"
            )
