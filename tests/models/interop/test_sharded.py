"""Weights in several files are read whole, and what is wrong with one of them is named."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from convbert.models.errors import UserError
from convbert.models.interop.hf import load_networks, load_pretrained

INDEX = "model.safetensors.index.json"


@pytest.fixture
def theirs() -> transformers.ConvBertForMaskedLM:
    torch.manual_seed(0)
    config = transformers.ConvBertConfig(
        vocab_size=60,
        hidden_size=32,
        embedding_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=24,
        pad_token_id=0,
    )
    model = transformers.ConvBertForMaskedLM(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.fixture
def folder(theirs: transformers.ConvBertForMaskedLM, tmp_path: Path) -> Path:
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 2
    assert not (tmp_path / "model.safetensors").exists()
    return tmp_path


def pickled(folder: Path) -> None:
    """Turn the files into those of torch.save."""
    for path in folder.glob("model-*.safetensors"):
        torch.save(load_file(path), path.with_name(f"pytorch_{path.stem}.bin"))
        path.unlink()
    content = json.loads((folder / INDEX).read_text())
    names = content["weight_map"].items()
    renamed = {t: f"pytorch_{n.removesuffix('.safetensors')}.bin" for t, n in names}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": renamed}))
    (folder / INDEX).unlink()


@pytest.mark.parametrize("old", [False, True], ids=["safetensors", "bin"])
def test_parts_make_the_whole(
    theirs: transformers.ConvBertForMaskedLM, folder: Path, old: bool
) -> None:
    if old:
        pickled(folder)
    ids = torch.arange(40).view(2, 20)
    with torch.no_grad():
        expected = theirs(ids).logits
        model = load_networks(folder).eval()
        assert torch.allclose(model.head(model.encoder(ids)), expected, atol=1e-5, rtol=0)


def edit(folder: Path, **fields: Any) -> None:
    (folder / INDEX).write_text(json.dumps(json.loads((folder / INDEX).read_text()) | fields))


def test_what_is_wrong_with_a_part_is_named(folder: Path) -> None:
    first = sorted(folder.glob("model-*.safetensors"))[0]
    content = first.read_bytes()
    weights = load_file(first)
    lost = next(iter(weights))
    save_file({name: weights[name] for name in weights if name != lost}, first)
    with pytest.raises(UserError, match=rf"{first.name}: lacks tensor '{lost}', which {INDEX}"):
        load_pretrained(folder)
    first.write_bytes(content[:-50])
    with pytest.raises(UserError, match=rf"{first.name}: damaged file"):
        load_pretrained(folder)
    first.unlink()
    with pytest.raises(UserError, match=rf"{first.name}: no such file"):
        load_pretrained(folder)
    edit(folder, weight_map={"embeddings.word_embeddings.weight": "../elsewhere.safetensors"})
    with pytest.raises(UserError, match=rf"{INDEX}: names '../elsewhere.safetensors'"):
        load_pretrained(folder)
    edit(folder, weight_map=[1])
    with pytest.raises(UserError, match=rf"{INDEX}: names no files of tensors"):
        load_pretrained(folder)
    (folder / INDEX).write_text("{")
    with pytest.raises(UserError, match=rf"{INDEX}: not a JSON file"):
        load_pretrained(folder)
