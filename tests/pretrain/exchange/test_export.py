"""What an exported directory needs beside its weights."""

import torch
import transformers

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.interop.hf import save_pretrained
from convbert.models.presets import preset
from convbert.models.pretraining import build_model
from convbert.pretrain.exchange.export import save_tokenizer


def test_the_generator_fills_masks_from_its_own_directory(tokenizer_dir, tmp_path):
    tokenizer = Tokenizer.load(tokenizer_dir)
    shape = {"num_layers": 1, "hidden_size": 64, "embedding_size": 64, "num_heads": 8}
    torch.manual_seed(0)
    model = build_model(preset("tiny", vocab_size=tokenizer.vocab_size, **shape))
    save_pretrained(model, tmp_path)
    save_tokenizer(tokenizer, tmp_path, 64)
    assert Tokenizer.load(tmp_path).digest == tokenizer.digest
    fill = transformers.pipeline("fill-mask", model=str(tmp_path / "generator"))
    found = fill("A name can [MASK] to an object.", top_k=3)
    assert len(found) == 3
    for answer in found:
        (expected,) = (tokenizer.pieces()[answer["token"]],)
        assert answer["token_str"].strip() == expected.replace("\u2581", " ").strip()
        assert "name can" in answer["sequence"]
