"""Task measures, computed by scikit-learn and scipy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats
from sklearn import metrics as sk

Score = Callable[[Sequence[float], Sequence[float]], float]


@dataclass(frozen=True)
class Metric:
    """A measure of (labels, predictions), class indices or numbers; higher is better."""

    kind: Literal["classification", "regression"]
    score: Score


def _correlation(measure: Callable[..., tuple[float, float]]) -> Score:
    def score(labels: Sequence[float], predictions: Sequence[float]) -> float:
        # Undefined for a constant predictor, which has learned nothing.
        if np.ptp(np.asarray(predictions)) == 0:
            return 0.0
        return float(measure(labels, predictions)[0])

    return score


def _f1(average: str) -> Score:
    def score(labels: Sequence[float], predictions: Sequence[float]) -> float:
        return float(sk.f1_score(labels, predictions, average=average, zero_division=0.0))

    return score


METRICS: dict[str, Metric] = {
    "accuracy": Metric("classification", lambda y, p: float(sk.accuracy_score(y, p))),
    "matthews": Metric("classification", lambda y, p: float(sk.matthews_corrcoef(y, p))),
    "f1": Metric("classification", _f1("binary")),
    "f1_macro": Metric("classification", _f1("macro")),
    "pearson": Metric("regression", _correlation(stats.pearsonr)),
    "spearman": Metric("regression", _correlation(stats.spearmanr)),
}
