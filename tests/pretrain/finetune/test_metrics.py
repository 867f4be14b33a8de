"""Measures against their definitions, written out."""

import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, fbeta_score

from convbert.pretrain.finetune.answer_metrics import Answer
from convbert.pretrain.finetune.metrics import METRICS, default_measure, misfit, spans


def score(name, labels, predictions):
    kind = "regression" if name in METRICS["regression"] else "classification"
    return METRICS[kind][name](labels, predictions)


def counts(labels, predictions):
    pairs = list(zip(labels, predictions, strict=True))
    return [pairs.count(pair) for pair in ((1, 1), (0, 0), (0, 1), (1, 0))]


@pytest.mark.parametrize("seed", range(5))
def test_classification_measures_on_random_predictions(seed):
    rng = np.random.default_rng(seed)
    labels, predictions = rng.integers(0, 2, 200).tolist(), rng.integers(0, 2, 200).tolist()
    tp, tn, fp, fn = counts(labels, predictions)
    assert score("accuracy", labels, predictions) == pytest.approx((tp + tn) / 200)
    assert score("f1", labels, predictions) == pytest.approx(2 * tp / (2 * tp + fp + fn))
    other = 2 * tn / (2 * tn + fp + fn)
    macro = (2 * tp / (2 * tp + fp + fn) + other) / 2
    assert score("f1_macro", labels, predictions) == pytest.approx(macro)
    root = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert score("matthews", labels, predictions) == pytest.approx((tp * tn - fp * fn) / root)


@pytest.mark.parametrize("seed", range(3))
def test_correlations_on_random_predictions_with_ties(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 6, 50).astype(float)
    predictions = labels + rng.integers(-2, 3, 50)

    def pearson(x, y):
        x, y = x - x.mean(), y - y.mean()
        return float((x * y).sum() / math.sqrt((x * x).sum() * (y * y).sum()))

    def ranks(values):
        return np.array([(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values])

    expected = pearson(labels, predictions)
    assert score("pearson", labels.tolist(), predictions.tolist()) == pytest.approx(expected)
    expected = pearson(ranks(labels), ranks(predictions))
    assert score("spearman", labels.tolist(), predictions.tolist()) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_f05_of_one_word_spans_counts_wrong_words_as_scikit_learn_does(seed):
    rng = np.random.default_rng(seed)
    wrong, guessed = rng.integers(0, 2, (2, 30, 7))
    tags = [np.where(words, "S-error", "O").tolist() for words in (wrong, guessed)]
    expected = fbeta_score(wrong.ravel(), guessed.ravel(), beta=0.5)
    assert METRICS["tagging"]["span_f05"](*tags) == pytest.approx(expected)
    assert METRICS["tagging"]["accuracy"](*tags) == accuracy_score(wrong.ravel(), guessed.ravel())


@pytest.mark.parametrize("name", ["matthews", "f1"])
def test_predicting_one_class_scores_zero(name):
    assert score(name, [0, 1, 0, 1], [0, 0, 0, 0]) == 0.0


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_a_constant_prediction_scores_zero(name):
    assert score(name, [0.0, 1.0, 2.0], [1.0, 1.0, 1.0]) == 0.0


def test_tags_of_one_scheme_are_compared_with_those_of_another():
    gold = ["B-PER", "I-PER", "I-PER", "O", "B-LOC", "B-LOC"]
    same = ["B-PER", "I-PER", "L-PER", "O", "U-LOC", "U-LOC"]
    assert METRICS["tagging"]["span_f1"]([gold], [same]) == 1.0
    assert spans(["U-PER", "U-PER", "B-PER", "L-PER"]) == {
        (0, 1, "PER"),
        (1, 2, "PER"),
        (2, 4, "PER"),
    }


@pytest.mark.parametrize(
    ("names", "measure"),
    [
        (["0", "1", "2"], "accuracy"),
        (["NOUN", "VERB"], "accuracy"),
        (["O", "PER-B", "PER-I"], "accuracy"),
        (["O", "B", "I"], "accuracy"),
        (["O", "B-", "I-"], "accuracy"),
        (["B-PER", "I-PER", "O"], "span_f1"),
        (["B-PER", "L-PER", "U-PER", "I-LOC", "O"], "span_f1"),
        (["B-a-b", "M-a-b", "E-a-b", "S-a-b"], "span_f1"),
    ],
)
def test_tags_without_spans_are_judged_by_accuracy_and_refused_for_span_measures(names, measure):
    assert default_measure("tagging", names) == measure
    refused = misfit("tagging", ["accuracy", "span_recall"], names)
    assert (refused is None) == (measure == "span_f1")
    assert misfit("tagging", ["accuracy"], names) is None


def test_f1_needs_two_classes():
    assert misfit("classification", ["accuracy", "f1"], ["no", "yes"]) is None
    fault = misfit("classification", ["accuracy", "f1"], ["a", "b", "c"])
    assert "there are 3 (a, b, c); use f1_macro" in fault


@pytest.mark.parametrize(
    ("kind", "name", "labels", "guesses"),
    [
        ("classification", "matthews", [1, 1], [[1, 1], [0, 1]]),
        ("classification", "f1", [0, 0], [[0, 0], [0, 1]]),
        ("regression", "pearson", [2.0, 2.0, 2.0], [[1.0, 2.0, 3.0], [1.0, 1.0, 1.0]]),
        ("regression", "spearman", [2.0], [[1.0]]),
        ("tagging", "span_f1", [["O", "O"]], [[["O", "O"]], [["B-X", "O"]]]),
        ("tagging", "span_recall", [["O", "O"]], [[["O", "O"]], [["B-X", "O"]]]),
        ("qa", "has_answer_f1", [[]], [[Answer("", "", 1.0)], [Answer("a", "a", 0.0)]]),
        ("qa", "no_answer", [["a"]], [[Answer("", "", 1.0)], [Answer("a", "a", 0.0)]]),
    ],
)
def test_labels_that_define_no_measure_give_nan_whatever_is_predicted(kind, name, labels, guesses):
    for guess in guesses:
        assert math.isnan(METRICS[kind][name](labels, guess))


def test_macro_f1_is_the_mean_over_the_classes_of_the_labels():
    # Class 2 is predicted but in no label: F1 of class 0 is 2/3, of class 1 it is 1.
    assert score("f1_macro", [0, 0, 1], [0, 2, 1]) == pytest.approx((2 / 3 + 1) / 2)
