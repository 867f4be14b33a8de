"""Parameter counts of the published models, to the last parameter."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from convbert.models.presets import preset
from convbert.models.pretraining import MaskedLanguageModel, ReplacedTokenModel, build_model


@dataclass(frozen=True)
class Counts:
    encoder: int
    embeddings: int
    discriminator_head: int
    generator_body: int
    generator_head: int
    total: int


PUBLISHED = {
    "small": Counts(13_143_768, 3_972_864, 66_049, 770_988, 39_098, 14_019_903),
    "medium-small": Counts(17_475_888, 3_972_864, 148_225, 871_884, 43_194, 18_539_191),
    "base": Counts(105_680_520, 23_837_184, 591_361, 9_334_744, 229_434, 115_836_059),
}
# Attention block with its output projection and norm, and feed-forward block.
PER_LAYER = {
    "small": (169_106 + 66_304, 526_080),
    "medium-small": (380_004 + 148_608, 592_512),
    "base": (1_504_182 + 592_128, 4_723_968),
}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def replaced_token_model(name: str, **overrides: object) -> ReplacedTokenModel:
    with torch.device("meta"):
        model = build_model(preset(name, **overrides))  # type: ignore[arg-type]
    assert isinstance(model, ReplacedTokenModel)
    return model


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name: str) -> None:
    model = replaced_token_model(name)
    embeddings = count(model.discriminator.embeddings)
    counted = Counts(
        encoder=count(model.discriminator),
        embeddings=embeddings,
        discriminator_head=count(model.discriminator_head),
        generator_body=count(model.generator) - embeddings,
        generator_head=count(model.generator_head),
        total=count(model),
    )
    assert counted == PUBLISHED[name]
    layer = model.discriminator.layers[0]
    assert (count(layer.attention), count(layer.feedforward)) == PER_LAYER[name]


@pytest.mark.parametrize(("name", "body"), [("small", 593_580), ("medium-small", 871_884)])
def test_generator_by_the_rule_of_transformers(name: str, body: int) -> None:
    model = replaced_token_model(name, head_rule="hf")
    assert count(model.generator) - count(model.generator.embeddings) == body


@pytest.mark.parametrize(
    ("name", "encoder"),
    [("electra-small", 13_483_008), ("electra-base", 108_891_648)],
)
def test_electra_sizes(name: str, encoder: int) -> None:
    assert count(replaced_token_model(name).discriminator) == encoder


def test_plain_electra_as_wide_as_medium_small() -> None:
    model = replaced_token_model("medium-small", local_op="attention", num_groups=1)
    assert count(model.discriminator) == 25_315_968


def test_bert_base_size() -> None:
    with torch.device("meta"):
        model = build_model(preset("bert-base"))
    assert isinstance(model, MaskedLanguageModel)
    assert count(model.encoder) == 108_891_648
    # dense and norm of width 768, and one bias per word; the output matrix is the word table.
    assert count(model.head) == 768 * 768 + 768 + 2 * 768 + 30_522
