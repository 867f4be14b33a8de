"""Training cost: the published figures, and the work that PyTorch's own counter sees."""

import importlib.util
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from convbert.models.architecture import EncoderConfig, PretrainingConfig
from convbert.models.encoder import Encoder
from convbert.models.flops import encoder_work, forward_flops, training_flops_per_sequence
from convbert.models.heads import DiscriminatorHead, MaskedLMHead
from convbert.models.ops.convolution import use_backend
from convbert.models.presets import generator_of, preset
from convbert.models.pretraining import build_model

REPOSITORY = Path(__file__).parents[2]
PAGE_WRITER = REPOSITORY / "docs" / "flops.py"
LENGTH, MASKED = 24, 4

# (preset, length, batch, updates, the papers' convention to four digits)
ACCEPTED = [
    ("small", 128, 128, 1_000_000, "1.257e+18"),
    ("medium-small", 128, 128, 1_000_000, "1.566e+18"),
    ("base", 128, 256, 1_000_000, "1.893e+19"),
    ("electra-small", 128, 128, 1_000_000, "1.294e+18"),
    ("electra-base", 512, 256, 766_000, "6.425e+19"),
    ("bert-base", 512, 256, 1_000_000, "6.428e+19"),
]

VARIANTS = {
    "sdconv": {},
    "sdconv grouped": {"num_groups": 2},
    "sdconv ratio 1": {"head_ratio": 1},
    "sdconv ratio 4 original": {"head_ratio": 4},
    "sdconv ratio 4 hf": {"head_ratio": 4, "head_rule": "hf"},
    "sdconv long kernel": {"conv_kernel_size": 15},
    "sdconv wide embeddings": {"embedding_size": 64},
    "dynamic": {"local_op": "dynamic"},
    "lightweight": {"local_op": "lightweight"},
    "conv": {"local_op": "conv"},
    "conv grouped": {"local_op": "conv", "num_groups": 4},
    "none": {"local_op": "none"},
    "attention": {"local_op": "attention"},
    "attention grouped": {"local_op": "attention", "num_groups": 2},
}


@pytest.fixture(scope="module")
def page_writer() -> ModuleType:
    """The script that writes the page on training costs."""
    spec = importlib.util.spec_from_file_location("flops_page", PAGE_WRITER)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look up their module
    spec.loader.exec_module(module)
    return module


def small_encoder(**overrides) -> EncoderConfig:
    fields = {
        "vocab_size": 90,
        "hidden_size": 64,
        "embedding_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "intermediate_size": 128,
        "max_positions": 32,
    }
    return EncoderConfig(**(fields | overrides))


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys())
def variant(request) -> EncoderConfig:
    return small_encoder(**request.param)


def counted(run) -> int:
    """Count the products of ``run`` with every operator written as a matrix product."""
    counter = FlopCounterMode(display=False)
    with use_backend("reference"), sdpa_kernel(SDPBackend.MATH), counter:
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize(("name", "length", "batch", "updates", "expected"), ACCEPTED)
def test_papers_convention_gives_the_known_figures(name, length, batch, updates, expected):
    per_sequence = training_flops_per_sequence(preset(name), length, "electra")
    assert f"{per_sequence * batch * updates:.3e}" == expected


def test_computed_costs_are_near_the_published_ones(page_writer):
    for run in page_writer.PUBLISHED_RUNS:
        computed = training_flops_per_sequence(preset(run.preset), run.seq_len, "electra")
        assert computed * run.batch_size * run.updates == pytest.approx(run.flops, rel=0.08), run


def test_span_convolution_saves_over_plain_attention_at_equal_recipe():
    savings = {
        name: 1
        - training_flops_per_sequence(preset(name), 128)
        / training_flops_per_sequence(preset(name, local_op="attention", num_groups=1), 128)
        for name in ("small", "medium-small", "base")
    }
    assert savings == pytest.approx(
        {"small": 0.029, "medium-small": 0.275, "base": 0.034}, abs=1e-3
    )


def test_hardware_count_of_the_forward_pass_is_what_torch_counts(variant):
    encoder = Encoder(variant).eval()
    ids = torch.randint(0, variant.vocab_size, (3, LENGTH))
    expected = 3 * forward_flops(variant, LENGTH, convention="hardware")
    assert expected == counted(lambda: encoder(ids))


def test_hardware_count_of_the_heads_is_what_torch_counts():
    config = small_encoder()
    hidden = torch.randn(1, LENGTH, config.hidden_size)
    body = forward_flops(config, LENGTH, convention="hardware")
    discriminator = DiscriminatorHead(config)
    full = forward_flops(config, LENGTH, head="discriminator", convention="hardware")
    assert full - body == counted(lambda: discriminator(hidden))
    masked_lm = MaskedLMHead(config, torch.nn.Embedding(90, config.embedding_size))
    full = forward_flops(
        config, LENGTH, head="masked_lm", convention="hardware", masked_positions=MASKED
    )
    assert full - body == counted(lambda: masked_lm(hidden[0, :MASKED]))


def test_hardware_count_of_a_training_step_is_what_torch_counts(variant):
    config = PretrainingConfig(
        discriminator=variant, generator=generator_of(variant, Fraction(1, 2))
    )
    model = build_model(config).train()
    ids = torch.randint(0, variant.vocab_size, (2, LENGTH))

    def step() -> None:
        hidden = model.generator(ids)[:, :MASKED].flatten(0, 1)
        logits = model.discriminator_head(model.discriminator(ids))
        (model.generator_head(hidden).square().sum() + logits.square().sum()).backward()

    expected = 2 * training_flops_per_sequence(config, LENGTH, "hardware", masked_positions=MASKED)
    assert expected == counted(step)


def test_a_generator_of_half_depth_costs_half_the_layers():
    """Counted by torch on the networks that are built, and as less than at full depth."""
    encoder = small_encoder(num_layers=4)
    full, half = (
        PretrainingConfig(discriminator=encoder, generator=generator_of(encoder, 1, depth=depth))
        for depth in (1, 0.5)
    )
    saved = training_flops_per_sequence(full, LENGTH, "hardware")
    saved -= training_flops_per_sequence(half, LENGTH, "hardware")
    ids = torch.randint(0, encoder.vocab_size, (1, LENGTH))
    built = [build_model(config).generator for config in (full, half)]
    passes = [counted(lambda g=generator: g(ids)) for generator in built]
    assert saved == 3 * (passes[0] - passes[1]) > 0


def test_differences_of_the_embeddings_cost_additions():
    tied, apart = preset("small"), preset("small", tie_embeddings="gdes")
    per_token = 3 * 128  # three tables of width 128, each row added once
    more = training_flops_per_sequence(apart, 128) - training_flops_per_sequence(tied, 128)
    assert more == 2 * 128 * per_token
    hardware = (training_flops_per_sequence(c, 128, "hardware") for c in (tied, apart))
    assert len(set(hardware)) == 1


def test_masked_language_modeling_counts_one_network():
    config = preset("bert-tiny")
    forward = forward_flops(config.discriminator, 128, head="masked_lm", convention="hardware")
    assert training_flops_per_sequence(config, 128, "hardware") == 3 * forward


def test_hardware_count_predicts_only_the_slots_that_exist():
    config = preset("small").generator
    default = forward_flops(config, 128, head="masked_lm", convention="hardware")
    assert default == forward_flops(
        config, 128, head="masked_lm", convention="hardware", masked_positions=19
    )


@pytest.mark.parametrize("name", ["tiny", "small", "medium-small", "base", "large"])
def test_taps_are_a_negligible_share_of_the_work(name):
    config = preset(name).discriminator
    taps = (config.hidden_size + config.bottleneck) * config.conv_kernel_size
    total = sum(work.products for work in encoder_work(config, 128).values())
    assert 2 * taps * 128 * config.num_layers / total < 0.01


def test_page_in_the_documentation_is_up_to_date(page_writer):
    written = (REPOSITORY / "docs" / "flops.md").read_text(encoding="utf-8")
    assert written == page_writer.page(), "run: python docs/flops.py > docs/flops.md"


def test_command_prints_the_page_with_the_published_table(page_writer):
    done = subprocess.run([sys.executable, PAGE_WRITER], capture_output=True, text=True, check=True)
    assert done.stdout == page_writer.page()
    assert page_writer.published_table() in done.stdout
    assert "| ConvBERT-base | 128 | 256 | 1M | 1.9e19 | 1.893e19 |" in done.stdout
