"""Exact match and F1 of extracted answers, as SQuAD's scripts count them.

An answer is compared after ``normalise``; a question scores the best of its gold answers. A
question without an answer has the single gold answer "", and predicting "" for it scores 1.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class Answer:
    """What a model says: the text ("" for none), its best text, and the odds against any answer.

    ``best`` is the answer it would give if it had to; ``null_odds`` are comparable between
    questions and larger where "no answer" is more likely. ``n_best`` are the best texts with the
    logarithms of their probabilities.
    """

    text: str
    best: str
    null_odds: float
    n_best: tuple[tuple[str, float], ...] = ()


def normalise(text: str) -> str:
    """Lower-case, drop ASCII punctuation and the articles a, an and the, and join the words."""
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(gold: str, guess: str) -> float:
    """1 where both are the same after normalisation, else 0."""
    return float(normalise(gold) == normalise(guess))


def token_f1(gold: str, guess: str) -> float:
    """F1 over the words, counted with multiplicity; 1 where neither has a word, 0 where one has."""
    expected, found = normalise(gold).split(), normalise(guess).split()
    if not expected or not found:
        return float(expected == found)
    common = sum((Counter(expected) & Counter(found)).values())
    return 2 * common / (len(expected) + len(found))


Measure = Callable[[str, str], float]


def best_over(measure: Measure, golds: Sequence[str], guess: str) -> float:
    """Return the largest value over the gold answers.

    Gold answers of which normalisation leaves nothing do not count, as in the script of 2.0; where
    none is left, the question has no answer.
    """
    kept = [gold for gold in golds if normalise(gold)] or [""]
    return max(measure(gold, guess) for gold in kept)


def _mean(measure: Measure) -> Callable[[Sequence[Sequence[str]], Sequence[Answer]], float]:
    def score(golds: Sequence[Sequence[str]], answers: Sequence[Answer]) -> float:
        pairs = zip(golds, answers, strict=True)
        return sum(best_over(measure, g, a.text) for g, a in pairs) / max(1, len(golds))

    return score


def _subset(
    measure: Measure, answerable: bool
) -> Callable[[Sequence[Sequence[str]], Sequence[Answer]], float]:
    """Restrict the mean to the questions with, or without, an answer; 0 where there is none."""

    def score(golds: Sequence[Sequence[str]], answers: Sequence[Answer]) -> float:
        chosen = [(g, a) for g, a in zip(golds, answers, strict=True) if bool(g) == answerable]
        return _mean(measure)([g for g, _ in chosen], [a for _, a in chosen])

    return score


def best_threshold(
    measure: Measure, golds: Sequence[Sequence[str]], answers: Sequence[Answer]
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


def _best(measure: Measure) -> Callable[[Sequence[Sequence[str]], Sequence[Answer]], float]:
    return lambda golds, answers: best_threshold(measure, golds, answers)[0]


ANSWER_METRICS = {
    "exact": _mean(exact_match),
    "f1": _mean(token_f1),
    "best_exact": _best(exact_match),
    "best_f1": _best(token_f1),
    "has_answer_exact": _subset(exact_match, True),
    "has_answer_f1": _subset(token_f1, True),
    "no_answer": _subset(exact_match, False),
}
