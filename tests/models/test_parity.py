"""Equality with transformers' ConvBERT, ELECTRA and BERT in fp64, forward and gradients."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from convbert.models.config import EncoderConfig
from convbert.models.encoder import Encoder
from convbert.models.heads import DiscriminatorHead, MaskedLMHead
from convbert.models.presets import preset

TOLERANCE = 1e-10
VOCABULARY = 40
Tensors = Mapping[str, Tensor]


def rename(tensors: Tensors, names: Mapping[str, str]) -> dict[str, Tensor]:
    """Rename the weights and biases of whole modules."""
    return {
        f"{theirs}.{kind}": tensors[f"{ours}.{kind}"]
        for ours, theirs in names.items()
        for kind in ("weight", "bias")
        if f"{ours}.{kind}" in tensors
    }


def embedding_tensors(tensors: Tensors) -> dict[str, Tensor]:
    return rename(
        tensors,
        {
            "embeddings.word": "embeddings.word_embeddings",
            "embeddings.position": "embeddings.position_embeddings",
            "embeddings.token_type": "embeddings.token_type_embeddings",
            "embeddings.norm": "embeddings.LayerNorm",
            "project": "embeddings_project",
        },
    )


def layer_tensors(tensors: Tensors, ours: str, theirs: str) -> dict[str, Tensor]:
    """Name one layer's tensors, or their gradients, as transformers does."""
    named = rename(
        tensors,
        {
            f"{ours}.attention.out_proj": f"{theirs}.attention.output.dense",
            f"{ours}.attention.norm": f"{theirs}.attention.output.LayerNorm",
            f"{ours}.attention.local.kernel": f"{theirs}.attention.self.conv_kernel_layer",
            f"{ours}.feedforward.up": f"{theirs}.intermediate.dense",
            f"{ours}.feedforward.down": f"{theirs}.output.dense",
            f"{ours}.feedforward.norm": f"{theirs}.output.LayerNorm",
        },
    )
    block = f"{theirs}.attention.self"
    span = f"{ours}.attention.local.span"
    parts = ["query", "key", "value"]
    if f"{span}_bias" in tensors:
        parts.append("conv_out_layer")
        named[f"{block}.key_conv_attn_layer.depthwise.weight"] = tensors[f"{span}_depthwise"]
        named[f"{block}.key_conv_attn_layer.pointwise.weight"] = tensors[f"{span}_pointwise"][
            ..., None
        ]
        named[f"{block}.key_conv_attn_layer.bias"] = tensors[f"{span}_bias"][:, None]
    for kind in ("weight", "bias"):
        split = tensors[f"{ours}.attention.in_proj.{kind}"].chunk(len(parts))
        named |= {f"{block}.{part}.{kind}": value for part, value in zip(parts, split, strict=True)}
    return named


def encoder_tensors(tensors: Tensors, num_layers: int) -> dict[str, Tensor]:
    named = embedding_tensors(tensors)
    for index in range(num_layers):
        named |= layer_tensors(tensors, f"layers.{index}", f"encoder.layer.{index}")
    return named


def parameters(module: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def randomize(module: nn.Module, std: float = 0.3) -> None:
    """Leave no parameter at a value, such as a zero bias, that could hide a mistake."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=std)


def transformers_config(
    config: EncoderConfig, kind: type[transformers.PretrainedConfig], **more: Any
) -> transformers.PretrainedConfig:
    return kind(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        intermediate_size=config.intermediate_size,
        max_position_embeddings=config.max_positions,
        type_vocab_size=config.type_vocab_size,
        layer_norm_eps=config.layer_norm_eps,
        pad_token_id=config.pad_token_id,
        attn_implementation="eager",
        **more,
    )


def convbert_config(config: EncoderConfig) -> transformers.PretrainedConfig:
    return transformers_config(
        config,
        transformers.ConvBertConfig,
        embedding_size=config.embedding_size,
        head_ratio=config.head_ratio,
        conv_kernel_size=config.conv_kernel_size,
        num_groups=config.num_groups,
    )


def electra_config(config: EncoderConfig) -> transformers.PretrainedConfig:
    return transformers_config(
        config, transformers.ElectraConfig, embedding_size=config.embedding_size
    )


@st.composite
def convbert_shapes(draw: st.DrawFn) -> EncoderConfig:
    """Any ConvBERT of transformers: by its own head rule, or by the authors' where they agree."""
    groups = draw(st.sampled_from([1, 2, 4]))
    head_dim = 4 * draw(st.integers(1, 2))
    if draw(st.booleans()):
        heads, ratio, rule = 2 * draw(st.integers(1, 3)), 2, "original"
        hidden = heads * head_dim
    else:
        heads, ratio, rule = draw(st.integers(1, 5)), draw(st.integers(1, 4)), "hf"
        hidden = 2 * max(1, heads // ratio) * head_dim
    return EncoderConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        embedding_size=draw(st.sampled_from([hidden, 12])),
        num_layers=draw(st.integers(1, 2)),
        num_heads=heads,
        intermediate_size=groups * draw(st.integers(1, 6)),
        head_ratio=ratio,
        head_rule=rule,
        conv_kernel_size=draw(st.sampled_from([1, 3, 5, 9])),
        num_groups=groups,
        max_positions=24,
        mask_conv_padding=False,
    )


@st.composite
def attention_shapes(draw: st.DrawFn, projected: bool = True) -> EncoderConfig:
    heads = draw(st.integers(1, 4))
    hidden = heads * draw(st.integers(1, 8))
    return EncoderConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        embedding_size=draw(st.sampled_from([hidden, 12])) if projected else hidden,
        num_layers=draw(st.integers(1, 2)),
        num_heads=heads,
        intermediate_size=draw(st.integers(1, 16)),
        local_op="attention",
        max_positions=24,
    )


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Tensor]:
    """A batch of rows, padded on the right to the longest; padding holds ordinary ids."""
    lengths = draw(st.lists(st.integers(1, 20), min_size=1, max_size=3))
    width = min(24, max(lengths) + draw(st.integers(0, 4)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shape = (len(lengths), width)
    return {
        "input_ids": torch.randint(1, VOCABULARY, shape, generator=generator),
        "token_type_ids": torch.randint(0, 2, shape, generator=generator),
        "attention_mask": (torch.arange(width) < torch.tensor(lengths)[:, None]).long(),
    }


def assert_same(ours: Tensors, theirs: Tensors) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        difference = (ours[name] - tensor).abs().max().item()
        assert difference < TOLERANCE * max(1.0, tensor.abs().max().item()), name


def load(module: nn.Module, tensors: Tensors) -> nn.Module:
    module = module.double().eval()
    module.load_state_dict(dict(tensors))
    return module


def check_encoder(
    config: EncoderConfig, batch: dict[str, Tensor], theirs: nn.Module, std: float = 0.3
) -> None:
    """Compare real positions, and the gradients of a random projection of them."""
    ours = Encoder(config).double().eval()
    randomize(ours, std)
    load(theirs, encoder_tensors(parameters(ours), config.num_layers))
    expected = theirs(**batch).last_hidden_state
    actual = ours(**batch)
    real = batch["attention_mask"].bool()
    assert (actual[real] - expected[real]).abs().max() < TOLERANCE
    direction = torch.randn_like(actual[real])
    (actual[real] * direction).sum().backward()
    (expected[real] * direction).sum().backward()
    assert_same(encoder_tensors(gradients(ours), config.num_layers), gradients(theirs))


@settings(max_examples=100, deadline=None)
@given(config=convbert_shapes(), batch=rows())
def test_convbert(config: EncoderConfig, batch: dict[str, Tensor]) -> None:
    check_encoder(config, batch, transformers.ConvBertModel(convbert_config(config)))


@pytest.mark.parametrize("name", ["small", "medium-small"])
def test_convbert_as_published(name: str) -> None:
    """All twelve layers, at the sizes and the weight scale of the released models."""
    config = preset(name, vocab_size=200, mask_conv_padding=False).discriminator
    ids = torch.randint(1, 200, (2, 20))
    mask = (torch.arange(20) < torch.tensor([20, 13])[:, None]).long()
    batch = {"input_ids": ids, "token_type_ids": (ids > 100).long(), "attention_mask": mask}
    check_encoder(config, batch, transformers.ConvBertModel(convbert_config(config)), std=0.05)


@settings(max_examples=30, deadline=None)
@given(config=attention_shapes(), batch=rows())
def test_electra(config: EncoderConfig, batch: dict[str, Tensor]) -> None:
    check_encoder(config, batch, transformers.ElectraModel(electra_config(config)))


@settings(max_examples=30, deadline=None)
@given(config=attention_shapes(projected=False), batch=rows())
def test_bert(config: EncoderConfig, batch: dict[str, Tensor]) -> None:
    theirs = transformers_config(config, transformers.BertConfig)
    check_encoder(config, batch, transformers.BertModel(theirs, add_pooling_layer=False))


@settings(max_examples=100, deadline=None)
@given(config=convbert_shapes(), batch=rows(), seed=st.integers(0, 2**31))
def test_convbert_block(config: EncoderConfig, batch: dict[str, Tensor], seed: int) -> None:
    """One layer alone, down to the gradient of its input."""
    torch.manual_seed(seed)
    layer = Encoder(config).layers[0].double().eval()
    randomize(layer)
    theirs = transformers.ConvBertModel(convbert_config(config)).encoder.layer[0]
    named = layer_tensors({f"ours.{k}": v for k, v in parameters(layer).items()}, "ours", "theirs")
    load(theirs, {name.removeprefix("theirs."): tensor for name, tensor in named.items()})
    mask = batch["attention_mask"]
    bias = (1.0 - mask[:, None, None, :].double()) * -10000.0
    hidden = torch.randn(*mask.shape, config.hidden_size, dtype=torch.float64)
    hidden_ours, hidden_theirs = (hidden.clone().requires_grad_() for _ in range(2))
    actual, expected = layer(hidden_ours, bias), theirs(hidden_theirs, bias)
    assert (actual - expected).abs().max() < TOLERANCE
    direction = torch.randn_like(actual)
    (actual * direction).sum().backward()
    (expected * direction).sum().backward()
    assert_same({"input": hidden_ours.grad}, {"input": hidden_theirs.grad})  # type: ignore[dict-item]


SMALL = EncoderConfig(
    vocab_size=VOCABULARY,
    hidden_size=16,
    embedding_size=8,
    num_layers=1,
    num_heads=2,
    intermediate_size=32,
    max_positions=24,
    mask_conv_padding=False,
)


@pytest.mark.parametrize(
    ("config", "build"),
    [
        (SMALL, lambda c: transformers.ConvBertForMaskedLM(convbert_config(c))),
        (
            SMALL.model_copy(update={"local_op": "attention"}),
            lambda c: transformers.ElectraForMaskedLM(electra_config(c)),
        ),
    ],
    ids=["convbert", "electra"],
)
def test_masked_language_model(
    config: EncoderConfig, build: Callable[[EncoderConfig], nn.Module]
) -> None:
    encoder = Encoder(config).double().eval()
    head = MaskedLMHead(config, encoder.embeddings.word).double()
    randomize(encoder)
    randomize(head)
    theirs = build(config).double().eval()
    named = encoder_tensors(parameters(encoder), 1)
    named = {f"{theirs.base_model_prefix}.{name}": tensor for name, tensor in named.items()}  # type: ignore[str-bytes-safe]
    named |= rename(
        parameters(head),
        {"dense": "generator_predictions.dense", "norm": "generator_predictions.LayerNorm"},
    )
    named["generator_lm_head.bias"] = head.bias.detach()
    missing = theirs.load_state_dict(named, strict=False)
    assert missing.missing_keys == ["generator_lm_head.weight"]
    assert not missing.unexpected_keys
    ids = torch.randint(1, VOCABULARY, (2, 12))
    expected = theirs(ids).logits
    assert (head(encoder(ids).flatten(0, 1)) - expected.flatten(0, 1)).abs().max() < TOLERANCE


def test_replaced_token_detection() -> None:
    config = SMALL.model_copy(update={"local_op": "attention"})
    encoder, head = Encoder(config).double().eval(), DiscriminatorHead(config).double()
    randomize(encoder)
    randomize(head)
    named = {f"electra.{k}": v for k, v in encoder_tensors(parameters(encoder), 1).items()}
    named |= rename(
        parameters(head),
        {
            "dense": "discriminator_predictions.dense",
            "prediction": "discriminator_predictions.dense_prediction",
        },
    )
    theirs = load(transformers.ElectraForPreTraining(electra_config(config)), named)
    ids = torch.randint(1, VOCABULARY, (2, 12))
    assert (head(encoder(ids)) - theirs(ids).logits).abs().max() < TOLERANCE
