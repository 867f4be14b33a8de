"""Gopher's rules with the values of a document's language, on article 1 of the human rights."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from convbert.data_pipeline.documents import Document
from convbert.data_pipeline.filters import (
    GopherConfig,
    GopherFilter,
    LanguageConfig,
    LanguageFilter,
    RepetitionConfig,
    RepetitionFilter,
)
from convbert.data_pipeline.filters.by_language import _table

ARTICLE_1 = json.loads(Path(__file__).with_name("article_1.json").read_text(encoding="utf-8"))
ENGLISH = (
    "All human beings are born free and equal in dignity and rights. They are endowed with reason "
    "and conscience and should act towards one another in a spirit of brotherhood, and have that."
)


def document(language: str, text: str) -> Document:
    return Document(f"{language}#1", "\n".join([text] * 4), language, language=language)


def dropped(stage: GopherFilter | RepetitionFilter, *documents: Document) -> dict[str, str]:
    _, report = pickle.loads(pickle.dumps(stage))(documents)
    return {s.id[:2]: reason for reason, held in report.samples.items() for s in held}


def test_prose_of_many_languages_is_prose() -> None:
    known = [document(language, text) for language, text in ARTICLE_1.items()]
    assert len(known) >= 20
    assert dropped(GopherFilter(sample_limit=99), document("en", ENGLISH), *known) == {}
    as_english = GopherFilter(GopherConfig(by_language=False), sample_limit=99)
    assert set(dropped(as_english, document("en", ENGLISH), *known)) == set(ARTICLE_1)


@pytest.mark.parametrize("language", ["ja", "zh", "th"])
def test_a_script_without_spaces_tells_its_language(language: str) -> None:
    unknown = replace(document(language, ARTICLE_1[language]), language="")
    assert dropped(GopherFilter(), unknown) == {}
    assert dropped(GopherFilter(), replace(unknown, text=unknown.text[:40])) == {
        language: "word count"
    }


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("hi", "दिल्ली भारत की राजधानी है। मौसम अच्छा है। "),
        ("ur", "اسلام آباد پاکستان کا دارالحکومت ہے۔ موسم اچھا ہے۔ "),
    ],
)
def test_a_stop_word_counts_before_a_stop(language: str, text: str) -> None:
    assert dropped(GopherFilter(GopherConfig(min_words=5)), document(language, text)) == {}


def test_the_stop_words_of_a_language_are_asked_of_it() -> None:
    german = document("de", "Wörter Wörter Worte Aufzählung Reihe Kette " * 3)
    assert dropped(GopherFilter(), german) == {"de": "stop words"}
    assert dropped(GopherFilter(), replace(german, language="xx")) == {}  # none are known
    own = GopherFilter(GopherConfig(stop_words=("Kette", "Reihe")))
    assert dropped(own, german) == {}
    assert dropped(own, document("fr", ARTICLE_1["fr"])) == {"fr": "stop words"}
    assert dropped(GopherFilter(GopherConfig(min_stop_words=0)), german) == {}


def test_values_are_those_that_the_source_states() -> None:
    """Copied from FineWeb2's deu_Latn.yml and jpn_Jpan.yml."""
    german, japanese = (GopherConfig().for_language(language) for language in ("de", "ja"))
    assert (german.min_mean_word, german.max_mean_word, german.min_alphabetic) == (0, 15, 0.774)
    assert (japanese.min_mean_word, japanese.max_mean_word) == (1, 6)
    assert german.stop_words[:3] == ("der", "und", "die")
    bounds = RepetitionConfig().for_language("ja")
    assert (bounds.max_top, bounds.max_duplicate_lines) == ({2: 0.239, 3: 0.196, 4: 0.172}, 0.328)
    assert RepetitionConfig(max_top={2: 0.5}).for_language("ja").max_top == {2: 0.5}
    assert len(_table()) == 83  # and English, whose values are the defaults


def test_what_older_builds_recorded_stays_the_same() -> None:
    assert "by_language" not in GopherConfig().model_dump(mode="json")
    off = GopherConfig(by_language=False).model_dump(mode="json")
    assert off["by_language"] is False
    assert GopherConfig.model_validate(off).by_language is False


def test_repetition_is_judged_by_language() -> None:
    text = " ".join([f"{i:05}" for i in range(79)] + ["ab cd"] * 25)  # top 2-gram: 20.2 %
    one = Document("en#1", text, "f", language="en")
    assert dropped(RepetitionFilter(), one) == {"en": "top 2-gram"}
    assert "top 2-gram" not in dropped(RepetitionFilter(), replace(one, language="ja")).values()


def test_the_language_filter_notes_the_language_of_what_it_keeps() -> None:
    known = [Document(f"f#{n}", t, "f") for n, t in enumerate((ENGLISH, ARTICLE_1["de"]))]
    kept, _ = LanguageFilter(LanguageConfig(languages=("en", "de")))(known)
    assert [d.language for d in kept] == ["en", "de"]
    assert [d.text for d in kept] == [d.text for d in known]
