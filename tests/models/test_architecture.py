"""Derived widths, refusals, presets and the generator rule."""

from fractions import Fraction
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from convbert.models.architecture import EncoderConfig, PretrainingConfig
from convbert.models.encoder import Encoder
from convbert.models.errors import UserError
from convbert.models.presets import PRESETS, generator_of, preset


def config(**overrides: Any) -> EncoderConfig:
    fields: dict[str, Any] = {
        "vocab_size": 100,
        "hidden_size": 64,
        "embedding_size": 32,
        "num_layers": 1,
        "num_heads": 4,
        "intermediate_size": 128,
    }
    return EncoderConfig(**(fields | overrides))


# (d, A, head_ratio) -> N, H, concatenated width by the authors' rule and by transformers' rule.
@pytest.mark.parametrize(
    ("width", "heads", "ratio", "original", "hf"),
    [
        (256, 4, 2, (2, 64, 256), (2, 64, 256)),
        (384, 8, 2, (4, 48, 384), (4, 48, 384)),
        (768, 12, 2, (6, 64, 768), (6, 64, 768)),
        (96, 2, 2, (1, 48, 96), (1, 48, 96)),
        (64, 1, 2, (1, 64, 128), (1, 32, 64)),
        (256, 4, 1, (4, 64, 512), (4, 32, 256)),
        (256, 4, 4, (1, 64, 128), (1, 128, 256)),
    ],
)
def test_head_rules(
    width: int,
    heads: int,
    ratio: int,
    original: tuple[int, int, int],
    hf: tuple[int, int, int],
) -> None:
    for rule, expected in (("original", original), ("hf", hf)):
        made = config(
            hidden_size=width,
            num_heads=heads,
            head_ratio=ratio,
            head_rule=rule,
            intermediate_size=4 * width,
        )
        assert (made.local_heads, made.head_dim, made.concat_width) == expected
        assert made.bottleneck == made.local_heads * made.head_dim


def test_widths_without_a_local_half() -> None:
    assert config(local_op="none").concat_width == 32
    plain = config(local_op="attention", head_ratio=4)
    assert (plain.local_heads, plain.bottleneck, plain.concat_width) == (4, 64, 64)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"conv_kernel_size": 8}, "conv_kernel_size=8 is even and has no center: use 7 or 9"),
        ({"num_groups": 3}, "hidden_size=64 is not divisible by num_groups=3"),
        ({"num_groups": 4, "intermediate_size": 126}, "intermediate_size=126 is not divisible"),
        ({"num_heads": 5}, "hidden_size=64 is not divisible by num_heads=5"),
        ({"num_heads": 6, "head_rule": "hf"}, "twice the reduced number of heads=6"),
        ({"num_heads": 5, "local_op": "attention"}, "use a multiple of 5 such as 65"),
        ({"pad_token_id": 100}, "pad_token_id=100 lies outside the vocabulary"),
        ({"local_op": "convolution"}, "local_op"),
        ({"head_ratio": 0}, "head_ratio"),
        ({"hidden_dropout": 1.0}, "hidden_dropout"),
        ({"kernel_size": 9}, "kernel_size"),
    ],
)
def test_nonsense_is_refused(overrides: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        config(**overrides)


def test_networks_that_do_not_fit_are_refused() -> None:
    kept = config()
    with pytest.raises(ValidationError, match="objective=rtd needs a generator"):
        PretrainingConfig(discriminator=kept)
    with pytest.raises(ValidationError, match="objective=mlm trains one encoder"):
        PretrainingConfig(objective="mlm", discriminator=kept, generator=kept)
    other_width = config(embedding_size=64)
    with pytest.raises(ValidationError, match=r"generator\.embedding_size=64 differs"):
        PretrainingConfig(discriminator=kept, generator=other_width)
    PretrainingConfig(discriminator=kept, generator=other_width, tie_embeddings=False)
    with pytest.raises(ValidationError, match=r"generator\.vocab_size=99"):
        PretrainingConfig(discriminator=kept, generator=config(vocab_size=99), tie_embeddings=False)


def test_shared_embeddings_of_another_width_are_refused() -> None:
    embeddings = Encoder(config()).embeddings
    with pytest.raises(UserError, match="embedding_size=16 does not fit"):
        Encoder(config(embedding_size=16), embeddings)


def test_a_row_beyond_the_position_table_is_refused() -> None:
    encoder = Encoder(config(max_positions=8))
    with pytest.raises(UserError, match="rows of 9 tokens exceed max_positions=8"):
        encoder(torch.ones(1, 9, dtype=torch.long))


# Width, heads and feed-forward size of the published generators.
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("small", (64, 1, 256, 1)),
        ("medium-small", (96, 2, 384, 2)),
        ("base", (256, 4, 1024, 1)),
        ("electra-small", (64, 1, 256, 1)),
        ("electra-base", (256, 4, 1024, 1)),
    ],
)
def test_published_generators(name: str, expected: tuple[int, int, int, int]) -> None:
    generator = preset(name).generator
    assert generator is not None
    assert expected == (
        generator.hidden_size,
        generator.num_heads,
        generator.intermediate_size,
        generator.num_groups,
    )
    assert generator.num_layers == 12


def test_the_papers_rounded_third_is_a_third() -> None:
    base = preset("base").discriminator
    assert generator_of(base, 0.33333) == generator_of(base, Fraction(1, 3))


@pytest.mark.parametrize("size", [0, -0.5, 1.5])
def test_generator_sizes_outside_zero_to_one_are_refused(size: float) -> None:
    with pytest.raises(UserError, match="not a fraction of the discriminator"):
        generator_of(config(), size)


@pytest.mark.parametrize("size", ["a half", "1/0", None, [1], float("nan")])
def test_a_generator_size_that_is_no_number_is_refused(size: Any) -> None:
    with pytest.raises(UserError, match="not a fraction of the discriminator"):
        generator_of(config(), size)


def test_a_generator_of_full_width_and_half_depth() -> None:
    made = preset("base", generator_size=1, generator_depth="1/2")
    assert made.generator == made.discriminator.model_copy(update={"num_layers": 6})
    assert preset("tiny", generator_depth=0.01).generator.num_layers == 1
    with pytest.raises(UserError, match="generator depth 2 is not a fraction"):
        preset("tiny", generator_depth=2)
    with pytest.raises(ValidationError, match="generator_depth=1"):
        preset("tiny", tie_encoders=True, generator_depth=0.5)


def test_embeddings_are_tied_in_three_ways_and_no_other() -> None:
    made = preset("small", tie_embeddings="gdes", generator_size=0.5)
    assert made.generator is not None
    assert made.generator.embedding_size == made.discriminator.embedding_size == 128
    with pytest.raises(ValidationError, match="tie_embeddings"):
        preset("tiny", tie_embeddings="desg")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="leave tie_embeddings out"):
        preset("bert-tiny", tie_embeddings="gdes")


def test_an_unknown_objective_is_refused() -> None:
    with pytest.raises(ValidationError, match="'rtd' or 'mlm'"):
        preset("tiny", objective="rdt")  # type: ignore[arg-type]


def test_every_preset_is_consistent() -> None:
    for name in PRESETS:
        made = preset(name, vocab_size=1000)
        assert made.discriminator.vocab_size == 1000
        assert made.discriminator.intermediate_size == 4 * made.discriminator.hidden_size
        assert (made.generator is None) == (made.objective == "mlm") == name.startswith("bert")


def test_overrides_reach_both_networks() -> None:
    made = preset("small", local_op="lightweight", num_layers=2, hidden_size=128)
    assert made.generator is not None
    for network in (made.discriminator, made.generator):
        assert (network.local_op, network.num_layers) == ("lightweight", 2)
    assert made.discriminator.intermediate_size == 512
    assert made.generator.hidden_size == 32
    assert preset("small", objective="mlm").generator is None


def test_an_untied_generator_has_embeddings_of_its_own_width() -> None:
    made = preset("small", tie_embeddings=False)
    assert made.generator is not None
    assert made.generator.embedding_size == made.generator.hidden_size == 64


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(UserError, match="'huge' is unknown: use one of tiny, small"):
        preset("huge")


def test_tied_encoders_need_equal_networks() -> None:
    assert preset("tiny", tie_encoders=True).generator == preset("tiny").discriminator
    for wrong in ({"generator_size": 0.5}, {"objective": "mlm"}, {"tie_embeddings": "gdes"}):
        with pytest.raises(ValidationError, match="tie_encoders"):
            preset("tiny", tie_encoders=True, **wrong)
