"""Weights from elsewhere reach a run, and a damaged vocabulary does not."""

from pathlib import Path

import pytest
import torch

from convbert.models.encoder import Encoder
from convbert.models.errors import UserError
from convbert.models.interop.hf import load_pretrained, save_pretrained
from convbert.models.presets import preset
from convbert.models.pretraining import ReplacedTokenModel, build_model
from convbert.pretrain.exchange.importing import import_weights, initialise_from

SIZES = {"num_layers": 1, "hidden_size": 32, "embedding_size": 32, "num_heads": 4}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "house", "##s", "é", "“"]


def networks(seed: int, vocab_size: int = 10) -> ReplacedTokenModel:
    torch.manual_seed(seed)
    model = build_model(preset("tiny", vocab_size=vocab_size, **SIZES))
    assert isinstance(model, ReplacedTokenModel)
    return model


def test_all_networks_are_taken_over(tmp_path: Path) -> None:
    source = networks(0)
    save_pretrained(source, tmp_path / "hf")
    target = networks(1)
    initialise_from(target, tmp_path / "hf")
    for name, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor), name


def test_an_encoder_alone_leaves_the_rest_fresh(tmp_path: Path) -> None:
    source = networks(0)
    save_pretrained(source.discriminator, tmp_path / "hf")
    target, fresh = networks(1), networks(1)
    initialise_from(target, tmp_path / "hf")
    for name, tensor in source.discriminator.state_dict().items():
        assert torch.equal(target.discriminator.state_dict()[name], tensor), name
    for name, tensor in fresh.discriminator_head.state_dict().items():
        assert torch.equal(target.discriminator_head.state_dict()[name], tensor), name


def test_another_shape_is_named(tmp_path: Path) -> None:
    save_pretrained(networks(0), tmp_path / "hf")
    with pytest.raises(UserError, match=r"embeddings.word.weight has shape \(10, 32\)"):
        initialise_from(networks(1, vocab_size=12), tmp_path / "hf")


def test_import_keeps_a_sound_vocabulary_only(tmp_path: Path) -> None:
    save_pretrained(networks(0).discriminator, tmp_path / "hf")
    (tmp_path / "hf" / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    _, note = import_weights(tmp_path / "hf", tmp_path / "sound")
    assert "sound" in note
    assert (tmp_path / "sound" / "tokenizer.json").is_file()

    mangled = "\n".join(WORDS).encode().decode("gbk", "replace")
    (tmp_path / "hf" / "vocab.txt").write_text(mangled.replace("\n", "\r\n"), encoding="utf-8")
    _, note = import_weights(tmp_path / "hf", tmp_path / "damaged")
    assert "left out" in note
    assert not (tmp_path / "damaged" / "vocab.txt").exists()
    with pytest.raises(UserError, match="damaged vocabulary"):
        import_weights(tmp_path / "hf", tmp_path / "no", vocab=tmp_path / "hf" / "vocab.txt")
    assert not (tmp_path / "no").exists()
    ours = load_pretrained(tmp_path / "damaged")
    assert isinstance(ours, Encoder)


def test_a_path_that_is_neither(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a Hugging Face directory nor"):
        import_weights(tmp_path / "model.ckpt-1", tmp_path / "out")
