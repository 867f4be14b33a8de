"""What a task's words give away: a baseline without any pretraining, fitted on the same rows.

Texts: TF-IDF of words and pairs of neighboring words, and a linear model. Tags: each word's most
frequent one, and for unknown words that of the longest known ending (Brants 2000, "TnT").
"""

import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import regex

from convbert.pretrain.finetune.data import TaskData
from convbert.pretrain.finetune.loop import score
from convbert.pretrain.finetune.reading import Example

LEXICAL = {
    "classification": "TF-IDF + logistic regression",
    "regression": "TF-IDF + ridge regression",
    "tagging": "most frequent tag",
}
"""The baseline of each kind of task that has one; answers to questions have none."""

# Punctuation counts as words; so does each letter of a script that puts no spaces between words.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORD = regex.compile(rf"(?V1)[{_UNSPACED}]\p{{M}}*|[\w--[{_UNSPACED}]]+|[^\w\s]")
_STRENGTH = 10.0
_MOST_TERMS = 250_000  # the frequent ones: bounds memory on the largest tasks

# TnT's: endings tell most about rare words, and capitalized ones are another matter.
_RARE, _LONGEST_ENDING = 10, 5

Predict = Callable[[Sequence[Example]], list[Any]]


def lexical_scores(data: TaskData) -> dict[str, dict[str, float]]:
    """Fit the baseline on the training rows; return each labeled held-out split's measures.

    Nothing in it is random. The task's kind has to be one of ``LEXICAL``.
    """
    train = data.examples["train"]
    predict = _tagger(data, train) if data.task.kind == "tagging" else _text_model(data, train)
    splits = [split for split in data.examples if split != "train" and data.labeled(split)]
    return {split: score(data, split, predict(data.examples[split])) for split in splits}


def words_of(text: str) -> list[str]:
    """Return the words and punctuation marks of a text in any script."""
    return _WORD.findall(text)


def _text_model(data: TaskData, train: Sequence[Example]) -> Predict:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression, Ridge

    texts = [text for example in train for text in example.texts]
    labels = [example.label for example in train]
    regression = data.task.kind == "regression"
    if not any(_WORD.search(text) for text in texts) or len(set(labels)) < 2:
        # No words, or one class in a few rows: there is nothing to fit.
        common = sum(labels) / len(labels) if regression else Counter(labels).most_common(1)[0][0]
        return lambda examples: [common] * len(examples)
    vectors = TfidfVectorizer(
        tokenizer=words_of,
        token_pattern=None,
        ngram_range=(1, 2),
        sublinear_tf=True,
        max_features=_MOST_TERMS,
    ).fit(texts)
    logistic = LogisticRegression(C=_STRENGTH, max_iter=1000)
    linear = Ridge(alpha=1 / _STRENGTH) if regression else logistic
    linear.fit(_features(vectors, train), labels)
    return lambda examples: linear.predict(_features(vectors, examples)).tolist()


def _features(vectors: Any, examples: Sequence[Example]) -> Any:
    """Return a sparse row for each text; for a pair both, their difference, product and cosine."""
    from scipy import sparse

    columns = zip(*(example.texts for example in examples), strict=True)
    first, *rest = (vectors.transform(column) for column in columns)
    if not rest:
        return first
    (second,) = rest
    product = first.multiply(second)
    cosine = sparse.csr_matrix(product.sum(axis=1))
    return sparse.hstack([first, second, abs(first - second), product, cosine]).tocsr()


def _tagger(data: TaskData, train: Sequence[Example]) -> Predict:
    words: dict[str, Counter[int]] = defaultdict(Counter)
    for example in train:
        for word, tag in zip(example.texts, example.label, strict=True):
            words[word][tag] += 1
    endings: dict[tuple[bool, str], Counter[int]] = defaultdict(Counter)
    for word, tags in words.items():
        if tags.total() <= _RARE:
            for key in _endings(word):
                endings[key] += tags
    overall = Counter(tag for example in train for tag in example.label)

    @functools.cache
    def guess(word: str) -> str:
        known = [words[form] for form in (word, word.lower()) if form in words]
        known += [endings[key] for key in _endings(word) if key in endings]
        return data.named(_most_frequent([*known, overall][0]))

    return lambda examples: [[guess(word) for word in example.texts] for example in examples]


def _endings(word: str) -> list[tuple[bool, str]]:
    """Return a word's endings, the longest first, each with whether the word has a capital."""
    capital = word[:1].isupper()
    lengths = range(min(len(word), _LONGEST_ENDING), -1, -1)
    return [(capital, word[len(word) - length :]) for length in lengths]


def _most_frequent(tags: Counter[int]) -> int:
    """Return the most frequent tag; of equally frequent ones the first in the list of tags."""
    return min(tags, key=lambda tag: (-tags[tag], tag))
