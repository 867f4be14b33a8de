"""The distributions that fresh parameters are drawn from."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from convbert.models.presets import preset
from convbert.models.pretraining import ReplacedTokenModel

# The standard deviation of a normal cut at two sigma, in units of sigma.
CUT = 0.8796


def model(**overrides: Any) -> ReplacedTokenModel:
    torch.manual_seed(0)
    return ReplacedTokenModel(preset("small", vocab_size=2000, num_layers=1, **overrides))


def assert_truncated(tensor: Tensor, sigma: float) -> None:
    assert tensor.std().item() == pytest.approx(CUT * sigma, rel=0.05)
    assert abs(tensor.mean().item()) < 0.1 * sigma
    assert 1.8 * sigma < tensor.abs().max().item() <= 2 * sigma


def test_original_weights_are_truncated_normals() -> None:
    made = model(num_groups=2)
    attention, feedforward = made.discriminator.layers[0].children()
    for weight in (
        made.discriminator.embeddings.word.weight,
        made.discriminator.embeddings.position.weight,
        attention.in_proj.weight,
        attention.out_proj.weight,
        attention.local.span_pointwise,
        attention.local.kernel.weight,
        feedforward.up.weight,
        made.discriminator_head.dense.weight,
        made.generator_head.dense.weight,
    ):
        assert_truncated(weight, 0.02)


@pytest.mark.parametrize("taps", [5, 9])
def test_original_depthwise_kernel_is_one_over_its_taps(taps: int) -> None:
    made = model(conv_kernel_size=taps)
    assert_truncated(made.discriminator.layers[0].attention.local.span_depthwise, 1 / taps)


def test_layers_without_an_initializer_are_glorot() -> None:
    made = model()
    for weight in (
        made.discriminator.project.weight,
        made.generator.project.weight,
        made.discriminator_head.prediction.weight,
    ):
        bound = math.sqrt(6 / sum(weight.shape))
        assert 0.95 * bound < weight.abs().max().item() <= bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)


def test_transformers_weights_are_normal_and_its_padding_row_zero() -> None:
    made = model(init="hf", initializer_range=0.05)
    attention = made.discriminator.layers[0].attention
    word = made.discriminator.embeddings.word.weight
    for weight in (
        word[1:],
        attention.in_proj.weight,
        attention.local.span_depthwise,
        made.discriminator.project.weight,
    ):
        assert weight.std().item() == pytest.approx(0.05, rel=0.05)
        assert weight.abs().max().item() > 2.5 * 0.05
    assert word[0].abs().max() == 0


@pytest.mark.parametrize("init", ["original", "hf"])
@pytest.mark.parametrize("local_op", ["sdconv", "conv", "attention"])
def test_biases_are_zero_and_norms_one(init: str, local_op: str) -> None:
    for name, parameter in model(init=init, local_op=local_op).named_parameters():
        if name.endswith("norm.weight"):
            assert torch.equal(parameter, torch.ones_like(parameter)), name
        elif name.endswith("bias"):
            assert torch.equal(parameter, torch.zeros_like(parameter)), name
        else:
            assert parameter.std() > 0, name
