import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convbert.data_pipeline.documents import Document
from convbert.data_pipeline.filters import (
    C4Config,
    C4Filter,
    GopherConfig,
    GopherFilter,
    LanguageConfig,
    LanguageFilter,
    RepetitionConfig,
    RepetitionFilter,
)
from convbert.data_pipeline.filters.language import KNOWN, _model
from convbert.data_pipeline.filters.repetition import _Words, repeated_shares, top_shares
from convbert.models.errors import UserError

PROSE = (
    "The committee met on the first day of the month to hear what had become of its proposals, and "
    "with some surprise it learned that nearly all of them were carried out. That was not the case "
    "in earlier years. Many members have asked since then whether a rule of this kind should be "
    "kept, or whether it would be wiser to leave such questions open until more is known."
)


def verdicts(stage: object, *texts: str) -> list[str]:
    documents = [Document(f"f#{i}", text, "f") for i, text in enumerate(texts)]
    kept, report = pickle.loads(pickle.dumps(stage))(documents)
    reasons = {s.id: reason for reason, samples in report.samples.items() for s in samples}
    assert {d.id for d in kept} | set(reasons) == {d.id for d in documents}
    return [reasons.get(d.id, "") for d in documents]


@pytest.mark.parametrize(
    ("text", "reason", "mended"),
    [
        (PROSE, "", {}),
        ("That was the very end of everything.", "word count", {"min_words": 4}),
        (PROSE, "word count", {"max_words": 20, "min_words": 0}),
        ("a b c d to the " * 20, "word length", {"min_mean_word": 1}),
        ("unpronounceable the to " * 20 + "incomprehensibility " * 40, "word length",
         {"max_mean_word": 20}),
        (PROSE + " # tag" * 9, "hash signs", {"max_hashes": 0.2}),
        (PROSE + " and so ..." * 11 + " on… and on.", "ellipses", {"max_ellipses": 0.2}),
        ("\n".join(f"- {word} of the words" for word in PROSE.split()), "bullet lines",
         {"max_bullet_lines": 1, "min_alphabetic": 0.5}),
        (PROSE + "\nread more...\n\nread on…", "ellipsis lines", {"max_ellipsis_lines": 0.7}),
        (PROSE + " 123 -- 45%" * 9, "alphabetic words", {"min_alphabetic": 0.5}),
        ("keine englischen Wörter " * 20, "stop words", {"min_stop_words": 0}),
    ],
)  # fmt: skip
def test_gopher_drops_by_each_rule(text: str, reason: str, mended: dict[str, float]) -> None:
    given_config = GopherConfig(**mended) if "max_words" in mended else GopherConfig()
    assert verdicts(GopherFilter(given_config), text) == [reason]
    if "max_words" not in mended:
        assert verdicts(GopherFilter(GopherConfig(**mended)), text) == [""]


def naive_top(words: list[str], n: int) -> float:
    grams = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    covered = [len("".join(g)) * copies for g, copies in grams.items() if copies > 1]
    return max(covered, default=0) / max(1, len("".join(words)))


def naive_repeated(words: list[str], n: int) -> float:
    grams = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    inside = {
        i + k
        for i in range(len(words) - n + 1)
        if grams[tuple(words[i : i + n])] > 1
        for k in range(n)
    }
    return sum(len(words[i]) for i in inside) / max(1, len("".join(words)))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["a", "bb", "ccc", "dddd", "é"]), max_size=30), min_size=1),
    st.integers(2, 7),
)
def test_shares_of_ngrams_are_those_of_the_definition(documents: list[list[str]], n: int) -> None:
    words = _Words.of([" ".join(d) for d in documents])
    np.testing.assert_allclose(top_shares(words, n), [naive_top(d, n) for d in documents])
    np.testing.assert_allclose(repeated_shares(words, n), [naive_repeated(d, n) for d in documents])


SENTENCES = [
    f"Sentence number {i} is about the {i * i} things of {i + 7} people." for i in range(40)
]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE, ""),
        ("", ""),
        ("one", ""),
        ("\n\n".join([*SENTENCES[:5], *SENTENCES[:3]]), "duplicate paragraphs"),
        ("\n\n".join([*SENTENCES[:9], PROSE, PROSE]), "characters of duplicate paragraphs"),
        ("\n".join([*SENTENCES[:5], *SENTENCES[:3]]), "duplicate lines"),
        ("\n".join([*SENTENCES[:9], PROSE, PROSE]), "characters of duplicate lines"),
        (" ".join(f"buy now {w}" for w in PROSE.split()), "top 2-gram"),
        (" ".join(f"so it is {w:x<20}" for w in PROSE.split()), "top 3-gram"),
        (" ".join(f"a b c d {w:x<16}" for w in PROSE.split()), "top 4-gram"),
        (PROSE + " Then. " + PROSE[:60] + " " + " ".join(SENTENCES[20:23]), "repeated 5-grams"),
    ],
)
def test_repetition_drops_by_each_rule(text: str, reason: str) -> None:
    assert verdicts(RepetitionFilter(), PROSE, text, PROSE) == ["", reason, ""]


def test_longer_ngrams_are_looked_at_when_shorter_ones_pass() -> None:
    words = [f"w{i:04}" for i in range(300)]
    text = " ".join(words + words[:20])  # 40 of 320 words repeat: 12.5 %
    assert verdicts(RepetitionFilter(), text) == ["repeated 8-grams"]
    config = RepetitionConfig(max_repeated={5: 0.15, 9: 0.2})
    assert verdicts(RepetitionFilter(config), text) == [""]


def test_c4_takes_out_lines_and_drops_what_has_too_few_sentences(tmp_path: Path) -> None:
    good = ["This line has an end mark.", 'He said "that is a line too."', "Is it one? Yes it is!"]
    bad = ["Menu", "A line without an end mark", "Short one.", "And then it trailed off ..."]
    bad += ["Please enable JavaScript to see this.", "Read our privacy policy before you go on."]
    cited = "A line with a source[12] and a mark.[citation needed]"
    text = "\n".join([*good, *bad, cited])
    kept, report = C4Filter()([Document("f#1", text, "f")])
    assert kept[0].text.split("\n") == [*good, "A line with a source and a mark."]
    assert report.changed == {
        "lines with a phrase": 1, "lines without end mark": 1, "short lines": 1,
    }  # fmt: skip
    texts = [
        "\n".join(good[:2]),
        text + "\nLorem ipsum dolor sit amet.",
        text + "\nvar x = { 1, 2 }.",
    ]
    assert verdicts(C4Filter(), *texts) == ["sentences", "phrase", "phrase"]
    long = text.replace("Menu", f"A word of {'x' * 1001} letters is here.")
    (document,) = C4Filter()([Document("f#1", long, "f")])[0]
    assert document.text == kept[0].text
    words = tmp_path / "bad.txt"
    words.write_text("\ufeffMark\r\n\nc++\n", encoding="utf-8")
    assert verdicts(C4Filter(C4Config(bad_words=words)), text, "Remarkable. " * 9) == [
        "bad word",
        "",
    ]
    with pytest.raises(UserError, match=r"no\.txt: cannot be read .*check c4\.bad_words"):
        C4Filter(C4Config(bad_words=tmp_path / "no.txt"))([Document("f#1", text, "f")])


def test_phrases_of_c4_are_found_whatever_their_case() -> None:
    lines = [f"{SENTENCES[0]} See our Terms of Sale.", *SENTENCES[1:4]]
    document = Document("f#1", "\n".join(lines), "f")
    kept, report = C4Filter(C4Config(line_phrases=("Terms of Sale",)))([document])
    assert kept[0].text.split("\n") == lines[1:]
    assert report.changed == {"lines with a phrase": 1}
    phrases = C4Config(document_phrases=("TERMS",))
    assert verdicts(C4Filter(phrases), document.text) == ["phrase"]


def test_c4_knows_the_stops_of_other_scripts() -> None:
    lines = ["これは一つ目の文です。これは二つ目の文です。", "「これは三つ目の文です。」"]
    kept, report = C4Filter()([Document("f#1", "\n".join([*lines, "メニューは終わり"]), "f")])
    assert [document.text for document in kept] == ["\n".join(lines)]
    assert report.changed == {"lines without end mark": 1}
    assert verdicts(C4Filter(C4Config(min_sentences=4)), "\n".join(lines)) == ["sentences"]


def test_the_known_languages_are_those_of_the_model() -> None:
    labels, _ = _model().predict("one", k=1000, threshold=-1.0)
    assert {label.removeprefix("__label__") for label in labels} == KNOWN


def test_languages_are_told_apart_offline() -> None:
    german = "Der Ausschuss trat am ersten Tag des Monats zusammen, um zu hören, was daraus wurde."
    french = "Le comité s'est réuni le premier jour du mois pour entendre ce qu'il en était advenu."
    assert verdicts(LanguageFilter(), PROSE, german, french) == ["", "de", "fr"]
    assert verdicts(LanguageFilter(), PROSE.upper()) == [""]
    assert verdicts(LanguageFilter(LanguageConfig(languages=("de", "fr"))), PROSE, german) == [
        "en",
        "",
    ]
    sure = LanguageConfig(min_score=0.9)
    assert verdicts(LanguageFilter(sure), "km 12 ok 3") != [""]
    menu = "Accueil | Produits | Nous contacter\n" * 3
    assert verdicts(LanguageFilter(), menu + PROSE * 3 + menu) == [""]
