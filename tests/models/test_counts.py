"""Parameter counts: the published sizes, and every variant against the built modules."""

from fractions import Fraction

import pytest

from convbert.models.architecture import EncoderConfig, PretrainingConfig
from convbert.models.counts import encoder_counts, parameter_counts
from convbert.models.presets import generator_of, preset
from convbert.models.pretraining import build_model

# Encoder, embeddings, attention, output, feed-forward (per layer), head, generator body,
# generator head, total: the figures of the released graphs.
PUBLISHED = {
    "small": (
        (13_143_768, 3_972_864, 169_106, 66_304, 526_080),
        (66_049, 770_988, 39_098, 14_019_903),
    ),
    "medium-small": (
        (17_475_888, 3_972_864, 380_004, 148_608, 592_512),
        (148_225, 871_884, 43_194, 18_539_191),
    ),
    "base": (
        (105_680_520, 23_837_184, 1_504_182, 592_128, 4_723_968),
        (591_361, 9_334_744, 229_434, 115_836_059),
    ),
}
VARIANTS = [
    {"local_op": operator, **extra}
    for operator in ("sdconv", "dynamic", "lightweight", "conv", "none", "attention")
    for extra in ({}, {"num_groups": 2}, {"embedding_size": 64}, {"conv_kernel_size": 5})
] + [{"head_ratio": 1}, {"head_ratio": 4}, {"head_ratio": 4, "head_rule": "hf"}]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes_have_the_known_parts(name):
    counts = parameter_counts(preset(name))
    encoder = counts.encoder
    body, rest = PUBLISHED[name]
    assert body == (
        encoder.total,
        encoder.embeddings,
        encoder.attention,
        encoder.output,
        encoder.feedforward,
    )
    assert rest == (counts.head, counts.generator.body, counts.generator_head, counts.total)


def test_generator_of_small_is_smaller_under_the_other_head_rule():
    generator = preset("small").generator
    assert encoder_counts(generator.model_copy(update={"head_rule": "hf"})).body == 593_580


@pytest.mark.parametrize(
    ("name", "encoder"),
    [("electra-small", 13_483_008), ("electra-base", 108_891_648), ("bert-base", 108_891_648)],
)
def test_plain_attention_has_the_known_size(name, encoder):
    assert parameter_counts(preset(name)).encoder.total == encoder


@pytest.mark.parametrize("tied", [True, False, "gdes"], ids=["tied", "untied", "gdes"])
@pytest.mark.parametrize("overrides", VARIANTS, ids=str)
def test_counts_are_what_was_built(overrides, tied):
    fields = {
        "vocab_size": 97,
        "hidden_size": 64,
        "embedding_size": 16,
        "num_layers": 2,
        "num_heads": 4,
        "intermediate_size": 128,
        "max_positions": 20,
    }
    encoder = EncoderConfig(**(fields | overrides))
    generator = generator_of(encoder, Fraction(1, 2), tie_embeddings=tied)
    config = PretrainingConfig(discriminator=encoder, generator=generator, tie_embeddings=tied)
    counts, model = parameter_counts(config), build_model(config)
    built = {
        name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()
    }
    assert built["discriminator"] == counts.encoder.total
    assert built["discriminator_head"] == counts.head
    assert built["generator"] == counts.generator.total
    assert built["generator_head"] == counts.generator_head
    layer = model.discriminator.layers[0]
    assert sum(p.numel() for p in layer.parameters()) == counts.encoder.layer
    assert sum(p.numel() for p in model.parameters()) == counts.total


def test_differences_are_a_second_embedding_block():
    tied, apart = (parameter_counts(preset("small", tie_embeddings=t)) for t in (True, "gdes"))
    assert apart.encoder == tied.encoder
    assert apart.total - tied.total == 3_972_864  # the published embeddings of small


def test_masked_language_model_is_one_network_and_a_head():
    config = preset("bert-tiny", vocab_size=300)
    total = sum(p.numel() for p in build_model(config).parameters())
    assert parameter_counts(config).total == total
    assert parameter_counts(config).generator is None


def test_tied_encoders_are_counted_once():
    config = preset("tiny", vocab_size=500, tie_encoders=True)
    built = sum(p.numel() for p in build_model(config).parameters())
    assert parameter_counts(config).total == built
    assert built < parameter_counts(preset("tiny", vocab_size=500, generator_size=1)).total
