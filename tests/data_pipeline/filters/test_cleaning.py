import pickle
import unicodedata

import ftfy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convbert.data_pipeline.documents import Document
from convbert.data_pipeline.filters.cleaning import Cleaner, CleaningConfig, _Decoding

ODD = "éèÃ©â€™“”ЁжА\u00a0\u00ad\u200b\u200d\ufeff\r\n\t\x00\x0c\x85\ud83d e\u0301&amp;<"


@pytest.mark.parametrize(
    ("dirty", "clean", "repairs"),
    [
        ("plain\n\ntext", "plain\n\ntext", []),
        ("naïve “quotes” – 你好 😀", "naïve “quotes” – 你好 😀", []),
        ("dÃ©jÃ\xa0 vu\nthe cafÃ© wasnâ€™t", "déjà vu\nthe café wasn’t", ["encoding"]),
        ("fish &amp; chips &lt;3", "fish & chips <3", ["entities"]),
        ("<b>a &amp; b</b>", "<b>a &amp; b</b>", []),
        ("a\r\nb\rc\x0cd\u2028e", "a\nb\nc\nd\ne", ["line ends"]),
        ("so\xadft\u200b zero\x00 \u202ebidi\ufeff", "soft zero bidi", ["invisible"]),
        ("می\u200cخواهم 👨\u200d👩", "می\u200cخواهم 👨\u200d👩", []),
        ("half \ud83d pair", "half pair", ["invisible", "spaces"]),
        ("cafe\u0301", "café", ["NFC"]),
        ("ﬁ ① ²", "ﬁ ① ²", []),
        ("  a \t b\xa0c \n\n\n\n d ", "a b c\n\nd", ["spaces"]),
    ],
)
def test_each_repair_and_what_needs_none(dirty: str, clean: str, repairs: list[str]) -> None:
    assert Cleaner().clean(dirty) == (clean, repairs)


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from(ODD) | st.characters(), max_size=60))
def test_clean_text_is_normal_and_stays_as_it_is(text: str) -> None:
    clean, _ = Cleaner().clean(text)
    assert unicodedata.is_normalized("NFC", clean)
    assert not any(unicodedata.category(c) in ("Cs", "Cc") and c != "\n" for c in clean)
    assert "  " not in clean
    assert "\n\n\n" not in clean
    assert clean == clean.strip()
    again, _ = Cleaner(CleaningConfig(encoding=False, entities=False)).clean(clean)
    assert again == clean


@settings(max_examples=300, deadline=None)
@given(
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x2FFF), min_size=1, max_size=30),
    st.sampled_from(["latin-1", "windows-1252", "windows-1251", "macroman"]),
)
def test_the_quick_search_misses_no_repair(text: str, encoding: str) -> None:
    misread = text.encode().decode(encoding, "ignore")
    for line in (misread, "A café, in prose: " + misread):
        if "\n" not in line:
            assert _Decoding().repair(line) == ftfy.fix_encoding(line)


def test_the_report_counts_repairs_and_what_was_empty() -> None:
    texts = ["fine", "two  spaces", "cafe\u0301  x", "\x00 \u200b"]
    documents = [Document(f"f#{i}", text, "f", {"n": i}) for i, text in enumerate(texts)]
    cleaner = pickle.loads(pickle.dumps(Cleaner(sample_limit=1)))
    cleaner(documents[:1])
    kept, report = pickle.loads(pickle.dumps(cleaner))(documents)
    assert [d.text for d in kept] == ["fine", "two spaces", "café x"]
    assert kept[0] is documents[0]
    assert kept[2].meta == {"n": 2}
    assert report.changed == {"spaces": 3, "NFC": 1, "invisible": 1}
    assert report.dropped == {"empty": 1}
    assert (report.documents_in, report.documents_out) == (4, 3)


def test_repairs_can_be_left_out() -> None:
    off = CleaningConfig(encoding=False, entities=False, form="none", invisible=False, spaces=False)
    text = "Ã© &amp; e\u0301\x00  "
    assert Cleaner(off).clean(text) == (text, [])
    assert Cleaner(CleaningConfig(form="NFKC")).clean("ﬁ")[0] == "fi"
