"""Exact match and F1 of extracted answers, as SQuAD's scripts count them.

An answer is compared after ``normalize``; a question scores the best of its gold answers. A
question without an answer has the single gold answer "", and predicting "" for it scores 1.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class Answer:
    """A model's prediction: the text ("" for none), its best text, and the odds against an answer.

    ``best`` is the answer it would give if it had to; ``null_odds`` are comparable between
    questions and larger where "no answer" is more likely. ``n_best`` are the best texts with the
    logarithms of their probabilities.
    """

    text: str
    best: str
    null_odds: float
    n_best: tuple[tuple[str, float], ...] = ()


def normalize(text: str) -> str:
    """Lower-case, drop ASCII punctuation and the articles a, an and the, and join the words."""
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(gold: str, guess: str) -> float:
    """Return 1 where both are the same after normalization, else 0."""
    return float(normalize(gold) == normalize(guess))


def token_f1(gold: str, guess: str) -> float:
    """Return F1 over the words with multiplicity; 1 where neither has a word, 0 where one has."""
    expected, found = normalize(gold).split(), normalize(guess).split()
    if not expected or not found:
        return float(expected == found)
    common = sum((Counter(expected) & Counter(found)).values())
    return 2 * common / (len(expected) + len(found))


TextMeasure = Callable[[str, str], float]
"""A measure of (gold answer, predicted text)."""

AnswerScore = Callable[[Sequence[Sequence[str]], Sequence[Answer]], float]
"""A measure of (gold answers, predictions) over all questions."""


def best_over(measure: TextMeasure, golds: Sequence[str], guess: str) -> float:
    """Return the largest value over the gold answers.

    Gold answers of which normalization leaves nothing do not count, as in the script of 2.0; where
    none is left, the question has no answer.
    """
    kept = [gold for gold in golds if normalize(gold)] or [""]
    return max(measure(gold, guess) for gold in kept)


def _mean(measure: TextMeasure, answerable: bool | None = None) -> AnswerScore:
    """Return the mean over all questions, or over those with, or without, an answer.

    It is NaN where there are none.
    """

    def score(golds: Sequence[Sequence[str]], answers: Sequence[Answer]) -> float:
        scores = [
            best_over(measure, gold, answer.text)
            for gold, answer in zip(golds, answers, strict=True)
            if answerable in (None, bool(gold))
        ]
        return sum(scores) / len(scores) if scores else math.nan

    return score


def best_threshold(
    measure: TextMeasure, golds: Sequence[Sequence[str]], answers: Sequence[Answer]
) -> tuple[float, float]:
    """Return the best mean over all thresholds on the null odds, and the threshold.

    Questions are answered with their best text in the order of rising odds; a question below the
    threshold scores with its text, one above scores 1 if it has no answer. As in the official
    script, one that has none costs 1 as soon as it is answered with words.
    """
    score = float(sum(not g for g in golds))
    top, threshold = score, 0.0
    order = sorted(range(len(golds)), key=lambda i: answers[i].null_odds)
    for index in order:
        gold, guess = golds[index], answers[index].best
        if gold:
            score += best_over(measure, gold, guess)
        else:
            score -= float(bool(guess))
        if score > top:
            top, threshold = score, answers[index].null_odds
    return top / max(1, len(golds)), threshold


def _best(measure: TextMeasure) -> AnswerScore:
    return lambda golds, answers: best_threshold(measure, golds, answers)[0]


ANSWER_METRICS: dict[str, AnswerScore] = {
    "exact": _mean(exact_match),
    "f1": _mean(token_f1),
    "best_exact": _best(exact_match),
    "best_f1": _best(token_f1),
    "has_answer_exact": _mean(exact_match, True),
    "has_answer_f1": _mean(token_f1, True),
    "no_answer": _mean(exact_match, False),
}
