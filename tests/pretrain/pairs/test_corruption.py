"""Pairs made from text: one fault each, the same every time, in any script."""

from collections import Counter

import pytest

from convbert.models.errors import UserError
from convbert.pretrain.pairs.corruption import CORRUPTIONS, make_pairs

ENGLISH = [
    "The committee has not yet decided whether the old bridge will be repaired.",
    "She said that nobody had seen the letter before it was burnt.",
    "In winter the ferry leaves twice a day, and never on Sundays.",
    "Most of the grain that they sow is eaten by birds before spring.",
]
OTHERS = {
    "german": ["Die alte Brücke über den Fluss wurde im vergangenen Jahr endlich repariert."],
    "chinese": ["我们昨天在图书馆里看到了一本关于古代桥梁的旧书。"],
    "japanese": ["昨日は図書館で古い橋についての本を読みました。"],
    "thai": ["เมื่อวานนี้เราไปห้องสมุดและอ่านหนังสือเกี่ยวกับสะพานเก่า"],
    "arabic": ["ذهبنا أمس إلى المكتبة وقرأنا كتابا عن الجسور القديمة في المدينة."],
    "hindi": ["कल हम पुस्तकालय गए और पुराने पुलों के बारे में एक किताब पढ़ी।"],
}


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_every_pair_has_one_fault_inside_the_sentence(corruption):
    for pair in make_pairs(ENGLISH, corruption, 100):
        good, bad = pair.good.split(), pair.bad.split()
        assert pair.good in ENGLISH
        assert (good[0], good[-1]) == (bad[0], bad[-1])
        if corruption in ("swap", "shuffle"):
            assert Counter(good) == Counter(bad)
            changed = [n for n, (a, b) in enumerate(zip(good, bad, strict=True)) if a != b]
            assert 2 <= changed[-1] - changed[0] + 1 <= (2 if corruption == "swap" else 4)
        if corruption == "delete":
            assert len(bad) == len(good) - 1
            assert not Counter(bad) - Counter(good)
        if corruption == "replace":
            assert sum(a != b for a, b in zip(good, bad, strict=True)) == 1


@pytest.mark.parametrize("language", OTHERS)
@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_scripts_with_and_without_spaces_give_pairs(language, corruption):
    (pair,) = make_pairs(OTHERS[language], corruption, 5)
    assert pair.good == OTHERS[language][0]
    assert pair.bad != pair.good
    if corruption in ("swap", "shuffle"):
        assert Counter(pair.bad) == Counter(pair.good)
    if " " in pair.good:
        assert pair.bad.count(" ") == pair.good.count(" ") - (corruption == "delete")


def test_pairs_do_not_depend_on_the_order_or_the_number_of_documents():
    whole = make_pairs(ENGLISH, "swap", 100)
    assert make_pairs([" ".join(ENGLISH[::-1])] * 2, "swap", 100) == whole
    assert set(make_pairs(ENGLISH, "swap", 2)) < set(whole)
    assert make_pairs(ENGLISH, "swap", 100, seed=1) != whole


def test_text_without_a_usable_sentence_is_refused():
    with pytest.raises(UserError, match="no pairs: no sentence of 6 to 60 words"):
        make_pairs(["Too short.", "no no no no no no no no"], "swap", 10)
