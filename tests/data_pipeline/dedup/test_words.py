import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from convbert.data_pipeline.dedup.words import hash_words, words

TEXTS = st.lists(st.text(st.sampled_from("aAbé’—1 \n.,日本ไทยㅏ\u0301_-ⅷ")), max_size=6)


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_equal_words_have_equal_hashes_and_only_those(texts: list[str]) -> None:
    hashed = hash_words(texts)
    of_word: dict[str, int] = {}
    for number, text in enumerate(texts):
        mine = hashed.hashes[hashed.offsets[number] : hashed.offsets[number + 1]].tolist()
        assert len(mine) == len(words(text))
        for word, value in zip(words(text), mine, strict=True):
            assert of_word.setdefault(word, value) == value
    assert len(set(of_word.values())) == len(of_word)


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.integers(1, 4))
def test_ngrams_are_the_runs_of_one_document(texts: list[str], size: int) -> None:
    grams = hash_words(texts).ngrams(size)
    of_run: dict[tuple[str, ...], int] = {}
    for number, text in enumerate(texts):
        found = words(text)
        count = max(len(found) - size + 1, min(len(found), 1))
        runs = [tuple(found[i : i + size]) for i in range(count)]
        mine = grams.hashes[grams.offsets[number] : grams.offsets[number + 1]].tolist()
        assert len(mine) == len(runs)
        for run, value in zip(runs, mine, strict=True):
            assert of_run.setdefault(run, value) == value
    assert len(set(of_run.values())) == len(of_run)


def test_case_punctuation_and_spaces_do_not_count() -> None:
    one, two = (hash_words([t]) for t in ("“Naïve”, she said…", "  naïve (She)  SAID "))
    assert np.array_equal(one.hashes, two.hashes)


def test_scripts_without_spaces_have_the_words_of_a_dictionary() -> None:
    assert words("日本語の test、人生而自由") == ["日本語", "の", "test", "人生", "而", "自由"]


def test_hashes_are_the_same_on_every_machine() -> None:
    """Stored hashes are compared with those of other machines and later versions."""
    assert hash_words(["Stable words"]).hashes.tolist() == [
        5246851488433317657,
        14955332574820014186,
    ]
