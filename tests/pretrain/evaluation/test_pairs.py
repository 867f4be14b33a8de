"""What a model cannot score is said before any text is read for it."""

from pathlib import Path

import pytest
from small_networks import network

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import UserError
from convbert.models.interop.hf import save_pretrained
from convbert.models.pretraining import kept_encoder
from convbert.pretrain.cli.pairs import ScoreName, pairs


@pytest.mark.parametrize(
    ("objective", "alone", "score", "message"),
    [
        ("rtd", True, None, "model: an encoder alone, nothing in it scores sentences"),
        ("mlm", False, ScoreName.discriminator, "--score discriminator: this model gives pll only"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_text_is_read(
    tokenizer_dir: Path, tmp_path: Path, objective: str, alone: bool, score, message: str
) -> None:
    tokenizer = Tokenizer.load(tokenizer_dir)
    networks = network(tokenizer, spread=0.02, objective=objective)
    save_pretrained(kept_encoder(networks) if alone else networks, tmp_path / "model")
    (tmp_path / "model" / "tokenizer.model").write_bytes(tokenizer.file.read_bytes())
    with pytest.raises(UserError, match=message):
        pairs(tmp_path / "model", ["no such text"], score=score and [score])
