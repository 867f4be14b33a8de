"""The baselines that see only words give what scikit-learn gives, step by step, on real data."""

import inspect
import io
import json
import pydoc_data.topics
import random
import textwrap
import tokenize
from collections import Counter

import numpy as np
import pytest
from scipy import stats
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, f1_score
from sklearn.metrics.pairwise import cosine_similarity

from convbert.pretrain.finetune.baselines import LEXICAL, lexical_scores, words_of
from convbert.pretrain.finetune.data import TaskData
from convbert.pretrain.finetune.reading import read_examples
from convbert.pretrain.finetune.task import TaskSpec

TOPICS = ("assignment", "customization", "formatstrings", "operator-summary")


def task_data(tmp_path, rows, **settings):
    """Read rows as a task, without ids: the baseline needs no tokenizer."""
    (tmp_path / "task.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = [column for column in rows[0] if column != "label"]
    entry = {"name": "t", "train": tmp_path / "task.jsonl", "text": text} | settings
    task = TaskSpec.model_validate(entry)
    examples, names = read_examples(task)
    return TaskData(task, names, 0, 0, {}, examples)


def sentences():
    """Return lines of Python's language reference, each with its topic and its place in it."""
    found = []
    for topic in TOPICS:
        lines = sorted(set(pydoc_data.topics.topics[topic].splitlines()))
        found += [(line, topic, place) for place, line in enumerate(lines) if line.strip()]
    return random.Random(0).sample(found, 300)


def texts(data, split, column=0):
    return [example.texts[column] for example in data.examples[split]]


def labels(data, split):
    return [example.label for example in data.examples[split]]


def weights(data, column=0):
    """Return TF-IDF of a column of train and dev, dense."""
    both = [text for example in data.examples["train"] for text in example.texts]
    counts = CountVectorizer(token_pattern=r"\w+|[^\w\s]", ngram_range=(1, 2)).fit(both)
    idf = TfidfTransformer(sublinear_tf=True).fit(counts.transform(both))
    parts = (texts(data, split, column) for split in ("train", "dev"))
    return [idf.transform(counts.transform(part)).toarray() for part in parts]


def test_texts_are_classified_as_by_scikit_learn(tmp_path):
    rows = [{"text": line, "label": topic} for line, topic, _ in sentences()]
    data = task_data(tmp_path, rows, metrics=["accuracy", "f1_macro"], split={"dev": 0.4})
    train, dev = weights(data)
    model = LogisticRegression(C=10, max_iter=1000).fit(train, labels(data, "train"))
    guesses, gold = model.predict(dev), labels(data, "dev")
    found = lexical_scores(data)
    assert found == {
        "dev": {
            "accuracy": pytest.approx(accuracy_score(gold, guesses)),
            "f1_macro": pytest.approx(f1_score(gold, guesses, average="macro")),
        }
    }
    assert found["dev"]["accuracy"] > 0.5 > max(Counter(gold).values()) / len(gold)


@pytest.mark.parametrize("columns", [["text"], ["first", "second"]])
def test_numbers_are_predicted_as_by_ridge_regression(tmp_path, columns):
    rows = [
        dict(zip(columns, (line, other), strict=False)) | {"label": place + 0.5}
        for (line, _, place), (other, _, _) in zip(sentences(), sentences()[1:], strict=False)
    ]
    metrics = ["spearman", "pearson"]
    data = task_data(tmp_path, rows, kind="regression", metrics=metrics, split={"dev": 0.4})
    parts = weights(data)
    if len(columns) == 2:
        parts = [
            np.hstack([u, v, np.abs(u - v), u * v, cosine_similarity(u, v).diagonal()[:, None]])
            for u, v in zip(parts, weights(data, 1), strict=True)
        ]
    guesses = Ridge(alpha=0.1).fit(parts[0], labels(data, "train")).predict(parts[1])
    gold = labels(data, "dev")
    found = lexical_scores(data)["dev"]
    assert found["spearman"] == pytest.approx(stats.spearmanr(gold, guesses)[0], abs=1e-3)
    assert found["pearson"] == pytest.approx(stats.pearsonr(gold, guesses)[0], abs=1e-4)
    assert found["pearson"] > 0.1


def source_code():
    """Return lines of the standard library as words, tagged by Python's tokenizer."""
    rows = []
    for module in (textwrap, random):
        lines = {}
        for token in tokenize.generate_tokens(io.StringIO(inspect.getsource(module)).readline):
            word = token.string.replace(" ", "")
            if word.isprintable() and word:
                kind = "KEYWORD" if word in ("def", "if", "in") else tokenize.tok_name[token.type]
                lines.setdefault(token.start[0], []).append((word, kind))
        rows += [
            {"words": [w for w, _ in line], "label": [t for _, t in line]}
            for line in lines.values()
        ]
    return rows


def test_words_get_the_most_frequent_tag_of_what_is_known_of_them(tmp_path):
    rows = source_code()
    data = task_data(tmp_path, rows, kind="tagging", metrics=["accuracy"], split={"dev": 0.5})
    train = [pair for e in data.examples["train"] for pair in zip(e.texts, e.label, strict=True)]
    counts = Counter(word for word, _ in train)

    def known(word):
        """Yield the tags of the training words that tell of this one, the nearest first."""
        yield [tag for other, tag in train if other == word]
        yield [tag for other, tag in train if other == word.lower()]
        rare = [
            (other, tag)
            for other, tag in train
            if counts[other] <= 10 and other[0].isupper() == word[0].isupper()
        ]
        for length in range(min(5, len(word)), -1, -1):
            yield [tag for other, tag in rare if other.endswith(word[len(word) - length :])]
        yield [tag for _, tag in train]

    right, unknown = [], 0
    for example in data.examples["dev"]:
        for word, tag in zip(example.texts, example.label, strict=True):
            nearest = next(tags for tags in known(word) if tags)
            dummy = DummyClassifier(strategy="most_frequent").fit([[0]] * len(nearest), nearest)
            right.append(dummy.predict([[0]])[0] == tag)
            unknown += word not in counts
    assert unknown > 100
    assert lexical_scores(data) == {"dev": {"accuracy": pytest.approx(np.mean(right))}}


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        # One class among the training rows; no words at all.
        ("classification", [("good", 1), ("fine", 1), ("bad", 0), ("worse", 1)]),
        ("classification", [(" ", 1), ("  ", 1), ("   ", 0), ("    ", 1)]),
        ("regression", [(" ", 1), ("  ", 2), ("   ", 3), ("    ", 4)]),
    ],
)
def test_where_nothing_can_be_fitted_the_guess_is_constant(tmp_path, kind, rows):
    metric = {"classification": "accuracy", "regression": "pearson"}[kind]
    (tmp_path / "dev.jsonl").write_text("".join(f'{{"text": "x", "label": {n}}}\n' for n in (1, 0)))
    entries = [{"text": text, "label": label} for text, label in rows]
    data = task_data(tmp_path, entries, kind=kind, metrics=[metric], dev=tmp_path / "dev.jsonl")
    data.examples["train"][:] = [e for e in data.examples["train"] if e.texts[0] != "bad"]
    assert lexical_scores(data) == {"dev": {metric: 0.5 if kind == "classification" else 0.0}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's 3 o'clock.", ["It", "'", "s", "3", "o", "'", "clock", "."]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),  # vowel signs belong to the word
        ("我喜歡 Python。", ["我", "喜", "歡", "Python", "。"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("사과를 좋아해요", ["사과를", "좋아해요"]),
    ],
)
def test_words_are_found_in_any_script(text, words):
    assert words_of(text) == words


def test_only_answers_to_questions_have_no_baseline():
    assert set(LEXICAL) == {"classification", "regression", "tagging"}
