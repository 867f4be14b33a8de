"""Measures against their definitions, written out."""

import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, fbeta_score

from convbert.pretrain.finetune.metrics import METRICS


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
