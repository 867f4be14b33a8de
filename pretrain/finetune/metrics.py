"""Task measures: scikit-learn's, scipy's, and spans counted as the CoNLL script counts them.

The two libraries are loaded when a measure is taken: listing tasks needs neither.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

from convbert.pretrain.finetune.answer_metrics import ANSWER_METRICS

Score = Callable[[Sequence[Any], Sequence[Any]], float]
"""A measure of (labels, predictions); higher is better, and NaN where the labels define none.

Whether it is NaN depends on the labels alone: predictions that carry nothing score 0.
"""

TagSpan = tuple[int, int, str]

# The names of BILOU and BMES for what IOBES calls E, S and I.
_SYNONYMS = {"L": "E", "U": "S", "M": "I"}
_SPAN_TAG = re.compile(r"O|[BIESLUM]-.+")


def _correlation(measure: Literal["pearsonr", "spearmanr"]) -> Score:
    def score(labels: Sequence[float], predictions: Sequence[float]) -> float:
        import numpy as np
        from scipy import stats

        if not np.ptp(np.asarray(labels)) > 0:
            return math.nan
        # No correlation with predictions that are constant or diverged: nothing has been learned.
        if not 0 < np.ptp(np.asarray(predictions)) < np.inf:
            return 0.0
        return float(getattr(stats, measure)(labels, predictions)[0])

    return score


def _scikit(measure: str, **options: Any) -> Score:
    def score(labels: Sequence[float], predictions: Sequence[float]) -> float:
        from sklearn import metrics

        return float(getattr(metrics, measure)(labels, predictions, **options))

    return score


def _matthews(labels: Sequence[int], predictions: Sequence[int]) -> float:
    if len(set(labels)) < 2:
        return math.nan
    return _scikit("matthews_corrcoef")(labels, predictions)


def _binary_f1(labels: Sequence[int], predictions: Sequence[int]) -> float:
    """Return F1 of the second class."""
    if 1 not in labels:
        return math.nan
    return _scikit("f1_score", average="binary", zero_division=0.0)(labels, predictions)


def _macro_f1(labels: Sequence[int], predictions: Sequence[int]) -> float:
    """Return the mean F1 of the classes that the labels hold, so that all seeds share them."""
    present = sorted(set(labels))
    return _scikit("f1_score", labels=present, average="macro", zero_division=0.0)(
        labels, predictions
    )


def spans(tags: Sequence[str]) -> set[TagSpan]:
    """Return the (first word, word behind the last, type) that IOB, IOBES or BILOU tags mark.

    A span starts at B and S, and at any tag whose type differs from the word before or follows O,
    E or S: that is how the CoNLL script reads tags that break the scheme.
    """
    found: set[TagSpan] = set()
    start, kind, open_ = 0, "", False
    for index, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        prefix = _SYNONYMS.get(prefix, prefix)
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
        if not expected:
            return math.nan
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
        "matthews": _matthews,
        "f1": _binary_f1,
        "f1_macro": _macro_f1,
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


_DEFAULTS = {"classification": "accuracy", "regression": "spearman", "qa": "f1"}


def default_measure(kind: str, names: Sequence[str]) -> str:
    """Return what decides where a task names no measure; of tagging it depends on the tags."""
    if kind == "tagging":
        return "accuracy" if _without_span(names) else "span_f1"
    return _DEFAULTS[kind]


def misfit(kind: str, measures: Sequence[str], names: Sequence[str]) -> str | None:
    """Say which measure is not defined for a task with these classes, and what to do; else None."""
    spanned = [name for name in measures if name.startswith("span_")]
    if kind == "tagging" and spanned and (plain := _without_span(names)):
        return (
            f"metrics: {spanned[0]} reads tags as O or PREFIX-TYPE with the prefixes of IOB, IOBES "
            f"or BILOU, and {plain!r} is neither; use accuracy, or rename tags by `label_names`"
        )
    if kind == "classification" and "f1" in measures and len(names) != 2:
        return (
            f"metrics: f1 is that of the second of two classes, and there are {len(names)} "
            f"({', '.join(names)}); use f1_macro"
        )
    return None


def _without_span(names: Sequence[str]) -> str | None:
    """Return the first tag that neither is O nor belongs to a span of a type."""
    return next((name for name in names if not _SPAN_TAG.fullmatch(name)), None)
