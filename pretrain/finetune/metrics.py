"""Task measures: scikit-learn's, scipy's, and spans counted as the CoNLL script counts them.

The two libraries are loaded when a measure is taken: listing tasks needs neither.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from convbert.pretrain.finetune.answer_metrics import ANSWER_METRICS

Score = Callable[[Sequence[Any], Sequence[Any]], float]
"""A measure of (labels, predictions); higher is better."""

TagSpan = tuple[int, int, str]


def _correlation(measure: Literal["pearsonr", "spearmanr"]) -> Score:
    def score(labels: Sequence[float], predictions: Sequence[float]) -> float:
        import numpy as np
        from scipy import stats

        # Undefined for predictions that are constant or diverged: nothing has been learned.
        if not 0 < np.ptp(np.asarray(predictions)) < np.inf:
            return 0.0
        return float(getattr(stats, measure)(labels, predictions)[0])

    return score


def _scikit(measure: str, **options: Any) -> Score:
    def score(labels: Sequence[float], predictions: Sequence[float]) -> float:
        from sklearn import metrics

        return float(getattr(metrics, measure)(labels, predictions, **options))

    return score


def spans(tags: Sequence[str]) -> set[TagSpan]:
    """Return the (first word, word behind the last, type) that IOB or IOBES tags mark.

    A span starts at B and S, and at any tag whose type differs from the word before or follows O,
    E or S: that is how the CoNLL script reads tags that break the scheme.
    """
    found: set[TagSpan] = set()
    start, kind, open_ = 0, "", False
    for index, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        begins = prefix in ("B", "S") or name != kind
        if open_ and (prefix == "O" or begins):
            found.add((start, index, kind))
            open_ = False
        if prefix != "O" and not open_:
            start, kind, open_ = index, name, True
        if open_ and prefix in ("E", "S"):
            found.add((start, index + 1, kind))
            open_ = False
        if not open_:
            kind = name if prefix != "O" else ""
    return found


def _span_score(ratio: Callable[[int, int, int], tuple[int, int]]) -> Score:
    """Return a measure that divides two numbers made of the spans right, expected and predicted."""

    def score(labels: Sequence[Any], predictions: Sequence[Any]) -> float:
        rows = [(spans(gold), spans(tags)) for gold, tags in zip(labels, predictions, strict=True)]
        right = sum(len(gold & found) for gold, found in rows)
        expected, predicted = sum(len(g) for g, _ in rows), sum(len(f) for _, f in rows)
        numerator, denominator = ratio(right, expected, predicted)
        return numerator / denominator if denominator else 0.0

    return score


def tag_accuracy(labels: Sequence[Any], predictions: Sequence[Any]) -> float:
    """Return the share of the words with the right tag."""
    pairs = [
        pair for row in zip(labels, predictions, strict=True) for pair in zip(*row, strict=True)
    ]
    return sum(gold == guess for gold, guess in pairs) / max(1, len(pairs))


METRICS: dict[str, dict[str, Score]] = {
    "classification": {
        "accuracy": _scikit("accuracy_score"),
        "matthews": _scikit("matthews_corrcoef"),
        "f1": _scikit("f1_score", average="binary", zero_division=0.0),
        "f1_macro": _scikit("f1_score", average="macro", zero_division=0.0),
    },
    "regression": {
        "pearson": _correlation("pearsonr"),
        "spearman": _correlation("spearmanr"),
    },
    "tagging": {
        "span_f1": _span_score(lambda right, expected, found: (2 * right, expected + found)),
        "span_precision": _span_score(lambda right, expected, found: (right, found)),
        "span_recall": _span_score(lambda right, expected, found: (right, expected)),
        "span_f05": _span_score(lambda right, expected, found: (5 * right, expected + 4 * found)),
        "accuracy": tag_accuracy,
    },
    "qa": dict(ANSWER_METRICS),
}
