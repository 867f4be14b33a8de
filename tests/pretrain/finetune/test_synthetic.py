"""Every kind of task end to end on the synthetic files: read, learned, scored, predicted."""

import json

import pytest
import synthetic_tasks
import torch
from synthetic_tasks import synthetic_task, write_synthetic

from convbert.data_pipeline.tokenizer.training import train_tokenizer
from convbert.models.architecture import EncoderConfig
from convbert.models.encoder import Encoder
from convbert.pretrain.finetune.kinds import prepare
from convbert.pretrain.finetune.loop import finetune
from convbert.pretrain.finetune.submission import write_predictions
from convbert.pretrain.finetune.task import load_task

FAST = ["recipe.learning_rate=3e-3", "recipe.layer_decay=1.0", "recipe.bias_correction=true"]
FAST += ["recipe.max_length=64", "recipe.schedule=linear", "recipe.batch_size=16"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    write_synthetic(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory, files):
    texts = [path.read_text() for path in sorted(files.rglob("*.tsv"))]
    for path in sorted(files.glob("*.json")):
        for paragraph in json.loads(path.read_text())["data"][0]["paragraphs"]:
            texts += [paragraph["context"], *(q["question"] for q in paragraph["qas"])]
    # With so few ids a piece for every sign would leave too few for words.
    folder = tmp_path_factory.mktemp("t") / "t"
    return train_tokenizer(texts, folder, vocab_size=500, ascii=False, threads=1)


def run(name, files, tokenizer, *overrides):
    data = prepare(load_task(synthetic_task(name, files), None, [*FAST, *overrides]), tokenizer)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "embedding_size": 32, "num_layers": 2, "num_heads": 2}
    shape |= {"intermediate_size": 64, "max_positions": 64, "hidden_dropout": 0.0}
    encoder = Encoder(EncoderConfig(vocab_size=tokenizer.vocab_size, **shape))
    return data, finetune(encoder, data, seed=0, keep=True)


def test_the_files_repeat_themselves_and_are_named_synthetic(files, tmp_path):
    for path in write_synthetic(tmp_path):
        assert path.read_bytes() == (files / path.relative_to(tmp_path)).read_bytes()
        assert "synthetic" in str(path.relative_to(tmp_path)).lower()
    assert synthetic_tasks.__doc__.startswith("SYNTHETIC")


def test_acceptability_with_a_submission_file(files, tokenizer, tmp_path):
    data, result = run("cola", files, tokenizer, "recipe.epochs=4")
    assert result.score == result.scores["dev"]["matthews"] > 0.5
    assert set(result.scores) == {"dev"}  # the test file has no labels
    path = write_predictions(data, "test", result.predictions["test"], tmp_path)
    lines = path.read_text().splitlines()
    assert (path.name, len(lines)) == ("SyntheticCoLA.tsv", 201)
    assert {line.split("\t")[1] for line in lines[1:]} == {"0", "1"}


def test_inference_on_two_dev_sets(files, tokenizer):
    data, result = run("nli", files, tokenizer, "train_rows=1200", "recipe.epochs=4")
    assert result.scores["dev"]["accuracy"] > 0.9
    # Its premises start in a way that training never showed.
    assert result.scores["dev_mismatched"]["accuracy"] < result.scores["dev"]["accuracy"]
    assert len(data.examples["train"]) == 1200


def test_tags_of_words(files, tokenizer, tmp_path):
    data, result = run("tags", files, tokenizer, "train_rows=600", "recipe.epochs=4")
    assert result.metric == "span_f1"
    assert result.score > 0.95
    path = write_predictions(data, "dev", result.predictions["dev"], tmp_path)
    first = path.read_text().split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in first] == list(data.examples["dev"][0].texts)


@pytest.mark.parametrize("head", ["electra", pytest.param("simple", marks=pytest.mark.slow)])
def test_answers_and_questions_without_one(files, tokenizer, tmp_path, head):
    settings = [f"recipe.qa.head={head}", "recipe.epochs=5", "recipe.qa.stride=16"]
    data, result = run("qa", files, tokenizer, *settings, "train_rows=1200")
    assert result.scores["dev"]["best_f1"] > 0.8
    assert result.scores["dev"]["has_answer_f1"] > 0.7
    assert result.scores["dev"]["no_answer"] > 0.7
    path = write_predictions(data, "dev", result.predictions["dev"], tmp_path)
    answers = json.loads(path.read_text())
    odds = json.loads((tmp_path / "dev.null_odds.json").read_text())
    best = json.loads((tmp_path / "dev.nbest.json").read_text())
    assert answers.keys() == odds.keys() == best.keys() == {e.id for e in data.examples["dev"]}
    for name, answer in answers.items():
        assert (answer == "") == (odds[name] > 0) or not best[name]
        scores = [entry["log_probability"] for entry in best[name]]
        assert scores == sorted(scores, reverse=True)
