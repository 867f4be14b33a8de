"""Weights from elsewhere reach a run, and a damaged vocabulary does not."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from convbert.models.errors import UserError
from convbert.models.interop.hf import save_pretrained
from convbert.models.presets import preset
from convbert.models.pretraining import ReplacedTokenModel, build_model
from convbert.pretrain.exchange.importing import import_weights
from convbert.pretrain.exchange.initializing import initialize_from

SIZES = {"num_layers": 1, "hidden_size": 32, "embedding_size": 32, "num_heads": 4}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "house", "##s", "é", "“"]


def networks(seed: int, vocab_size: int = 10, **overrides: Any) -> ReplacedTokenModel:
    torch.manual_seed(seed)
    model = build_model(preset("tiny", vocab_size=vocab_size, **(SIZES | overrides)))
    assert isinstance(model, ReplacedTokenModel)
    return model


def test_all_networks_are_taken_over(tmp_path: Path) -> None:
    source = networks(0)
    save_pretrained(source, tmp_path / "hf")
    target = networks(1)
    initialize_from(target, tmp_path / "hf")
    for name, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor), name


def test_an_encoder_alone_leaves_the_rest_fresh(tmp_path: Path) -> None:
    source = networks(0)
    save_pretrained(source.discriminator, tmp_path / "hf")
    target, fresh = networks(1), networks(1)
    initialize_from(target, tmp_path / "hf")
    for name, tensor in source.discriminator.state_dict().items():
        assert torch.equal(target.discriminator.state_dict()[name], tensor), name
    for name, tensor in fresh.discriminator_head.state_dict().items():
        assert torch.equal(target.discriminator_head.state_dict()[name], tensor), name


def outputs(model: ReplacedTokenModel) -> tuple[torch.Tensor, torch.Tensor]:
    """What both networks make of some rows."""
    ids = torch.arange(20).view(2, 10) % 10
    model.eval()
    with torch.no_grad():
        logits = model.discriminator_head(model.discriminator(ids))
        return logits, model.generator_head(model.generator(ids))


@pytest.mark.parametrize("tied", [True, "gdes"])
def test_differences_of_imported_networks(tmp_path: Path, tied: Any) -> None:
    source = networks(0, tie_embeddings=tied)
    if tied == "gdes":
        torch.nn.init.normal_(source.discriminator.embeddings.word.weight, std=0.1)
    save_pretrained(source, tmp_path / "hf")
    target = networks(1, tie_embeddings="gdes")
    initialize_from(target, tmp_path / "hf")
    difference = target.discriminator.embeddings.word.weight
    expected = source.discriminator.embeddings.word.weight if tied == "gdes" else 0 * difference
    torch.testing.assert_close(difference, expected, rtol=0, atol=1e-6)
    for found, wanted in zip(outputs(target), outputs(source), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


def test_an_encoder_alone_gives_its_tables_to_both_networks(tmp_path: Path) -> None:
    source = networks(0)
    save_pretrained(source.discriminator, tmp_path / "hf")
    target = networks(1, tie_embeddings="gdes")
    initialize_from(target, tmp_path / "hf")
    assert not target.discriminator.embeddings.word.weight.any()
    for name, tensor in source.discriminator.embeddings.state_dict().items():
        assert torch.equal(target.generator.embeddings.state_dict()[name], tensor), name
    assert torch.equal(outputs_alone(target), outputs_alone(source))


def outputs_alone(model: ReplacedTokenModel) -> torch.Tensor:
    return model.discriminator.eval()(torch.arange(20).view(2, 10) % 10)


def test_one_table_cannot_take_those_of_two_networks(tmp_path: Path) -> None:
    source = networks(0, tie_embeddings="gdes")
    torch.nn.init.normal_(source.discriminator.embeddings.word.weight, std=0.1)
    save_pretrained(source, tmp_path / "hf")
    target, fresh = networks(1), networks(1)
    with pytest.raises(UserError, match=r"embeddings.word.weight differ.*tie_embeddings: gdes"):
        initialize_from(target, tmp_path / "hf")
    for name, tensor in fresh.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor), name


def test_a_path_that_is_neither(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a Hugging Face directory nor"):
        import_weights(tmp_path / "model.ckpt-1", tmp_path / "out")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garbage(path: Path) -> None:
    path.write_bytes(b"no weights at all")


def reshape(path: Path) -> None:
    weights = load_file(path)
    weights["generator_lm_head.bias"] = torch.zeros(3)
    save_file(weights, path)


def state_more_words(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"vocab_size": 11}))


GENERATOR = "generator/model.safetensors"
DAMAGE: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "cut": (GENERATOR, cut, "damaged file"),
    "garbage": (GENERATOR, garbage, "damaged file"),
    "other shapes": (GENERATOR, reshape, r"'generator_lm_head.bias' has shape \(3,\)"),
    "no weights": (GENERATOR, Path.unlink, "neither model.safetensors nor"),
    "config cut": ("generator/config.json", cut, "not a JSON file"),
    "config of other weights": ("generator/config.json", state_more_words, "vocab_size=11"),
    "no config": ("generator/config.json", Path.unlink, "no such file"),
    "head cut": ("discriminator_head.safetensors", cut, "damaged file"),
    "no head": ("discriminator_head.safetensors", Path.unlink, "no such file"),
}


@pytest.mark.parametrize(("name", "damage", "reason"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_generator_is_refused_and_not_left_out(
    tmp_path: Path, name: str, damage: Callable[[Path], None], reason: str
) -> None:
    save_pretrained(networks(0), tmp_path / "hf")
    damage(tmp_path / "hf" / name)
    place = re.escape(str((tmp_path / "hf" / name).parent))
    with pytest.raises(UserError, match=f"{place}.*{reason}"):
        initialize_from(networks(1), tmp_path / "hf")
    with pytest.raises(UserError, match=f"{place}.*{reason}"):
        import_weights(tmp_path / "hf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_without_a_generator_are_said_to_be_an_encoder_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_pretrained(networks(0), tmp_path / "hf")
    shutil.rmtree(tmp_path / "hf" / "generator")
    line, _ = import_weights(tmp_path / "hf", tmp_path / "out")
    assert line == "ConvBertModel; generator: none in the source, the encoder alone was imported"
    initialize_from(networks(1), tmp_path / "hf")
    assert (
        "its encoder alone is used; generator and heads start fresh, and a discriminator"
        in caplog.text
    )
    save_pretrained(networks(0), tmp_path / "whole")
    line, _ = import_weights(tmp_path / "whole", tmp_path / "copy")
    assert line == "ConvBertModel; generator: ConvBertForMaskedLM"
