"""Sentences of a run's own data with a word masked."""

import json

import pytest

from convbert.data_pipeline.packing.build import RowSettings, build_shards
from convbert.data_pipeline.readers import iter_documents
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.data_pipeline.tokenizer.training import train_tokenizer
from convbert.pretrain.settings.recipes import resolve
from convbert.pretrain.show.samples import COUNT, mask_a_word, samples_of, sentences

CHINESE = [
    "今天天气很好，我们一起去公园散步。", "她喜欢在图书馆里读书，因为那里很安静。",
    "这部电影非常有意思，演员的表演也很出色。", "老师告诉学生明天有一场重要的考试。",
]  # fmt: skip


@pytest.fixture(scope="module")
def config(shards_dir, tokenizer_dir):
    data = [f"data.manifest={shards_dir / 'manifest.json'}", f"data.tokenizer={tokenizer_dir}"]
    return resolve("tiny", data)


def test_each_sample_is_a_sentence_of_the_data_with_a_whole_word_masked(
    config, tokenizer_dir, documents
):
    flat = " ".join(" ".join(documents).split())
    found = sentences(config, Tokenizer.load(tokenizer_dir))
    assert found == sentences(config, Tokenizer.load(tokenizer_dir))
    assert len({sample.text for sample in found}) == COUNT
    for sample in found:
        assert sample.text.count("[MASK]") == 1
        assert sample.answer.isalpha()
        assert sample.text.replace("[MASK]", sample.answer) in flat
        assert " [MASK]" in sample.text


def test_a_script_without_spaces_and_held_out_text(tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    texts = [" ".join(CHINESE[n:] + CHINESE[:n]) for n in range(4)] * 8
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    train_tokenizer(iter_documents([corpus]), tmp_path / "tokenizer", vocab_size=320)
    tokenizer = Tokenizer.load(tmp_path / "tokenizer")
    build_shards([corpus], tmp_path / "tokenizer", tmp_path / "shards", rows=RowSettings(64))
    held_out = f"evaluation.held_out={tmp_path / 'shards' / 'manifest.json'}"
    found = sentences(resolve("tiny", ["data.manifest=absent", held_out]), tokenizer)
    assert found
    for sample in found:
        text = sample.text.replace("[MASK]", sample.answer)
        assert text.replace(",", "，") in CHINESE  # NFKC
        assert 0 < len(sample.answer) < 6


def test_nothing_is_masked_where_there_is_no_word(tokenizer_dir):
    tokenizer = Tokenizer.load(tokenizer_dir)
    (ids,) = tokenizer.encode_batch(["( 1 2 3 4 5 6 7 8 9 ) + - * / ; :"])
    assert mask_a_word(ids, tokenizer) is None


def test_texts_of_the_settings_are_taken_as_they_are(config, tokenizer_dir):
    chosen = resolve("tiny", ["evaluation.show=['A [MASK].', 'B.']"])
    found = samples_of(chosen, Tokenizer.load(tokenizer_dir))
    assert [sample.text for sample in found] == ["A [MASK].", "B."]
