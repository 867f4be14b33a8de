"""Sentences and words in many scripts.

The texts are the first article of the Universal Declaration of Human Rights, whose sentences are
known, and the examples of UAX 29 and ICU.
"""

import json
from pathlib import Path

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from convbert.data_pipeline.dedup.words import words
from convbert.data_pipeline.documents import Document
from convbert.data_pipeline.filters import GopherConfig, GopherFilter
from convbert.data_pipeline.filters.repetition import _Words
from convbert.data_pipeline.packing.build import RowSettings, build_shards
from convbert.data_pipeline.packing.tokenizer_report import report_tokenizer
from convbert.data_pipeline.segmentation import ends_foreign_sentence, spaced, split_segments
from convbert.data_pipeline.shards.store import SequenceStore
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer

ARTICLE_1 = {
    "en": ["All human beings are born free and equal in dignity and rights.",
           "They are endowed with reason and conscience and should act towards one another in a "
           "spirit of brotherhood."],
    "zh": ["人人生而自由，在尊严和权利上一律平等。",
           "他们赋有理性和良心，并应以兄弟关系的精神相对待。"],
    "ja": ["すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
           "人間は、理性と良心とを授けられており、互いに同胞の精神をもって行動しなければならない。"],
    "hi": ["सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
           "उन्हें बुद्धि और अन्तरात्मा की देन प्राप्त है और परस्पर उन्हें भाईचारे के भाव से बर्ताव करना चाहिये।"],
    "am": ["የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው።",
           "የተፈጥሮ ማስተዋልና ሕሊና ስላለው አንዱ ሌላውን በወንድማማችነት መንፈስ መመልከት ይገባዋል።"],
    "ur": ["تمام انسان آزاد اور حقوق و عزت کے اعتبار سے برابر پیدا ہوئے ہیں۔",
           "انہیں ضمیر اور عقل ودیعت ہوئی ہے۔",
           "اس لیے انہیں ایک دوسرے کے ساتھ بھائی چارے کا سلوک کرنا چاہیئے۔"],
    "hy": ["Բոլոր մարդիկ ծնվում են ազատ ու հավասար՝ իրենց արժանապատվությամբ ու իրավունքներով։",
           "Նրանք ունեն բանականություն ու խիղճ։"],
    "my": ["လူတိုင်းသည် တူညီ လွတ်လပ်သော ဂုဏ်သိက္ခာဖြင့် မွေးဖွားလာသူများ ဖြစ်သည်။",
           "ထိုသူတို့၌ ပိုင်းခြား ဝေဖန်တတ်သော ဉာဏ်နှင့် ကျင့်ဝတ် သိတတ်သော စိတ်တို့ရှိကြသည်။"],
    "km": ["មនុស្សទាំងអស់កើតមកមានសេរីភាពនិងសមភាពក្នុងសេចក្ដីថ្លៃថ្នូរនិងសិទ្ធិ។",
           "មនុស្សគ្រប់រូបសុទ្ធតែមានវិចារណញ្ញាណនិងសតិសម្បជញ្ញៈ។"],
    "th": ["มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
           "ต่างมีเหตุผลและมโนธรรม", "และควรปฏิบัติต่อกันด้วยเจตนารมณ์แห่งภราดรภาพ"],
    "ar": ["هل يولد جميع الناس أحرارًا؟", "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق."],
    "el": ["Είναι όλοι οι άνθρωποι ελεύθεροι;", "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι."],
    "bo": ["འགྲོ་བ་མིའི་རིགས་རྒྱུད་ཡོངས་ལ།", "སྐྱེས་ཙམ་ཉིད་ནས་ཆེ་མཐོངས་དང༌།"],
}  # fmt: skip
UNSPACED = ("zh", "ja")


@pytest.mark.parametrize("language", ARTICLE_1)
def test_a_line_is_cut_where_its_sentences_end(language: str) -> None:
    sentences = ARTICLE_1[language]
    line = ("" if language in UNSPACED else " ").join(sentences)
    assert split_segments(line) == sentences
    assert split_segments("\n".join(sentences)) == sentences
    assert split_segments(f"{line}\r\n\n {line}\n") == sentences * 2


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("He said “Stop.” Then he left.", ["He said “Stop.”", "Then he left."]),
        ("(Really?)  Yes!\n\n  No…  Hm. ", ["(Really?)", "Yes!", "No…", "Hm."]),
        ("3.14 is not e.g.5", ["3.14 is not e.g.5"]),
        ("Ce café; déjà? Oui!", ["Ce café; déjà?", "Oui!"]),
        ("他说：“你好。”然后😀走了！ Mr. Li is e.g. here", ["他说：“你好。”", "然后😀走了！", "Mr.",
                                             "Li is e.g.", "here"]),
        ("そうだ。「はい。」と（次。）言った。『え？』「", ["そうだ。", "「はい。」", "と（次。）",
                                             "言った。", "『え？』「"]),
        ("好。„Ja.“ Und «oui.» 「", ["好。", "„Ja.“", "Und «oui.»", "「"]),
        ("「", ["「"]),
        ("มี 3 คน และต่าง ๆ นานา", ["มี 3 คน", "และต่าง ๆ", "นานา"]),
        (" \n\t ", []),
    ],
)  # fmt: skip
def test_sentences_end_after_their_closing_marks(text: str, parts: list[str]) -> None:
    assert split_segments(text) == parts


@pytest.mark.parametrize("language", ["zh", "ja", "hi", "am", "ur", "th"])
def test_one_line_is_packed_like_a_line_per_sentence(
    language: str, tokenizer_dir: Path, tmp_path: Path
) -> None:
    sentences = ARTICLE_1[language] * 6
    joint = "" if language in UNSPACED else " "
    shards = []
    for name, text in (("line", joint.join(sentences)), ("lines", "\n".join(sentences))):
        file = tmp_path / f"{name}.jsonl"
        file.write_text(json.dumps({"text": text}) + "\n")
        manifest = build_shards([file], tokenizer_dir, tmp_path / name, rows=RowSettings(512))
        rows = SequenceStore(manifest, tmp_path / name).read([(0, manifest.num_sequences)])
        shards.append(rows.tolist())
    sep = Tokenizer.load(tokenizer_dir).sep_id
    assert shards[0] == shards[1]
    assert max(row.count(sep) for row in shards[0]) == 2  # there are segments B


def test_filters_deduplication_and_report_count_the_same_words(tokenizer_dir: Path) -> None:
    text = "".join(ARTICLE_1["ja"])
    counted = len(spaced(text).split())
    assert counted > 40
    for bound, kept in ((counted, 1), (counted + 1, 0)):
        config = GopherConfig(min_words=bound, min_mean_word=1, min_stop_words=0)
        assert len(GopherFilter(config)([Document("f#1", text, "f")])[0]) == kept
    assert len(_Words.of([text]).ids) == len(words(text)) == counted
    assert report_tokenizer(Tokenizer.load(tokenizer_dir), [text]).words == counted


def test_only_white_space_is_lost_between_sentences(documents: list[str]) -> None:
    for text in documents:
        assert "".join("".join(split_segments(text)).split()) == "".join(text.split())


ANY = st.text(st.sampled_from('aZé.!?;…"” \n\u3000。！？।።۔؟日本ไทย ๆで3ΑΩ\u037e་།😀\u0301\u200c'))


@given(ANY)
@settings(deadline=None)
def test_no_character_is_lost_or_moved(text: str) -> None:
    letters = "".join(text.split())
    assert "".join("".join(split_segments(text)).split()) == letters
    assert "".join(spaced(text).split()) == letters


LATIN_RULE = regex.compile(r"(?<=[.!?…][\"'”’»)\]]|[.!?…])\s+")


@given(st.text(st.sampled_from('aZéя.!?;…"”» \n-—€')))
@settings(deadline=None)
def test_european_text_is_cut_at_stops_before_white_space_alone(text: str) -> None:
    """Shards of such text keep their bytes: neither ICU nor its version decides there."""
    lines = (line.strip() for line in text.splitlines())
    assert split_segments(text) == [s for line in lines for s in LATIN_RULE.split(line) if s]
    assert spaced(text) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("日本語の文章です。", "日本語 の 文章 です。"),
        ("iPhone 15を買う", "iPhone 15 を 買う"),
        ("人人生而自由，在尊严", "人 人生 而 自由， 在 尊严"),
        ("มนุษย์ทั้งหลายเกิดมามีอิสระ", "มนุษย์ ทั้ง หลาย เกิด มา มี อิสระ"),
        ("བོད་ཡིག་ནི།", "བོད་ ཡིག་ ནི།"),
        ("한국어는 띄어 씁니다.", "한국어는 띄어 씁니다."),
        ("کتاب می‌خوانم", "کتاب می‌خوانم"),
    ],
)
def test_words_are_those_of_a_dictionary_where_a_script_has_no_spaces(
    text: str, words: str
) -> None:
    assert spaced(text).split() == words.split()


@pytest.mark.parametrize(
    ("line", "ends"),
    [("そうです。」", True), ("そうです", False), ("ยินดีต้อนรับ", True), ("है।", True),
     ("Yes.", False), ("Naïve—", False)],
)  # fmt: skip
def test_stops_of_other_scripts_end_a_line(line: str, ends: bool) -> None:
    assert ends_foreign_sentence(line) is ends
