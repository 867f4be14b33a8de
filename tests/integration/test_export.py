"""An exported run is what transformers loads: same hidden states, same ids."""

import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from convbert.data_pipeline.tokenizer import Tokenizer
from convbert.pretrain.exchange.export import export_checkpoint
from convbert.pretrain.exchange.trained_model import kept_encoder, load_model
from convbert.pretrain.run_directory import RunDirectory

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def run(runner, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    path = tmp_path_factory.mktemp("runs") / "trained"
    runner.finish(path, "steps=3", "checkpoint.every=3", processes=1)
    return RunDirectory(path)


@pytest.fixture(scope="module")
def exported(run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "model"
    assert export_checkpoint(run, folder) == 3
    return folder


def test_hidden_states_are_ours(run: RunDirectory, exported: Path, documents: list[str]) -> None:
    theirs = AutoModel.from_pretrained(exported, local_files_only=True).eval()
    ours = kept_encoder(load_model(run)[0]).eval()
    tokenizer = AutoTokenizer.from_pretrained(exported, local_files_only=True)
    for text in documents[:8]:
        batch = tokenizer(text, return_tensors="pt", truncation=True)
        with torch.no_grad():
            expected = theirs(**batch).last_hidden_state
            found = ours(batch["input_ids"], token_type_ids=batch["token_type_ids"])
        assert (expected - found).abs().max() < 1e-5


def test_ids_of_a_thousand_sentences(
    exported: Path, tokenizer_dir: Path, documents: list[str]
) -> None:
    sentences = [s for text in documents for s in re.split(r"(?<=[.!?])\s+", text) if s][:1000]
    assert len(sentences) == 1000
    ours = Tokenizer.load(tokenizer_dir)
    theirs = AutoTokenizer.from_pretrained(exported, local_files_only=True)
    assert theirs(sentences, add_special_tokens=False)["input_ids"] == ours.encode_batch(sentences)
    framed = theirs("one", "two")
    ids = [ours.cls_id, *ours.encode_batch(["one"])[0], ours.sep_id]
    assert framed["input_ids"] == [*ids, *ours.encode_batch(["two"])[0], ours.sep_id]
    assert framed["token_type_ids"] == [0] * len(ids) + [1] * (len(framed["input_ids"]) - len(ids))
    assert theirs.pad_token_id == ours.pad_id == 0
