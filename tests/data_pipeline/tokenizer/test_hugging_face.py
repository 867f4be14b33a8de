import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from convbert.data_pipeline.segmentation import split_segments
from convbert.data_pipeline.tokenizer.hugging_face import (
    SPACE,
    TRICKY,
    check_identical,
    fast_tokenizer,
    save_hf_tokenizer,
)
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.data_pipeline.tokenizer.training import train_tokenizer
from convbert.models.errors import UserError

SENTENCE = "The quick brown fox isn't lazy; café ﬁnance £5 ."


def library_sentences() -> list[str]:
    """Lines of the standard library: comments, docstrings, code, some of it far from ASCII."""
    files = sorted(Path(json.__file__).parents[1].glob("*.py"))
    texts = (file.read_text(encoding="utf-8") for file in files[::2])
    return sorted({s for text in texts for s in split_segments(text)})[::10]


def random_unicode(count: int) -> list[str]:
    """Strings of ASCII, assigned characters and old combining marks, in any order."""
    choice = random.Random(0)
    known = unicodedata.ucd_3_2_0
    marks = [c for c in map(chr, range(0x300, 0x3000)) if known.category(c) == "Mn"]
    pool = [c for c in map(chr, range(0x80, 0x30000)) if unicodedata.category(c)[0] in "LNPS"]

    def character() -> str:
        kind = choice.random()
        return choice.choice(pool if kind < 0.4 else marks if kind < 0.6 else "  abABZ<.\n\t\x00")

    return ["".join(character() for _ in range(16)) for _ in range(count)]


PERSIAN = "می\u200cخوانم و کتاب\u200cها را می\u200cخوانند"
VARIANTS: dict[str, dict[str, Any]] = {
    "": {},
    "lowercase": {"lowercase": True},
    "nfkc": {"normalization": "nfkc"},
    "identity": {"normalization": "identity"},
    "joiners": {},
}


@pytest.fixture(
    scope="module",
    params=[
        "unigram",
        "bpe",
        "unigram-lowercase",
        "bpe-nfkc",
        "unigram-identity",
        "unigram-joiners",
    ],
)
def tokenizer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, documents: list[str]
) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizers") / request.param
    model_type, _, variant = request.param.partition("-")
    texts = [*documents, *[PERSIAN] * 50 * (variant == "joiners")]
    return train_tokenizer(
        texts, folder, vocab_size=1000, model_type=model_type, **VARIANTS[variant]
    )


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WordPiece vocabulary in the layout that BERT publishes."""
    folder = tmp_path_factory.mktemp("wordpiece")
    letters = [chr(c) for c in range(33, 127) if not chr(c).isupper()]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, "the", "quick", "brown"]
    pieces = [*words, *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"), "##ick", "fi", "cafe"]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")
    return folder


def differing(tokenizer: Tokenizer, texts: list[str]) -> list[str]:
    encoded = fast_tokenizer(tokenizer).encode_batch(texts, add_special_tokens=False)
    pairs = zip(texts, encoded, tokenizer.encode_batch(texts), strict=True)
    return [text for text, ids, expected in pairs if ids.ids != expected]


def test_fast_tokenizer_gives_the_ids_of_real_sentences(tokenizer: Tokenizer) -> None:
    sentences = library_sentences()
    assert len(sentences) > 1000
    assert differing(tokenizer, sentences) == []


def test_fast_tokenizer_gives_the_ids_of_whole_documents(
    tokenizer: Tokenizer, documents: list[str]
) -> None:
    assert differing(tokenizer, [*documents, "\n".join(documents)]) == []


def test_fast_tokenizer_gives_the_ids_of_every_character(tokenizer: Tokenizer) -> None:
    characters = [chr(c) for c in range(0x3100) if unicodedata.category(chr(c)) != "Cn"]
    assert differing(tokenizer, [f"a{c}b A{c}B {c}" for c in characters]) == []


def test_fast_tokenizer_gives_the_ids_of_random_unicode(tokenizer: Tokenizer) -> None:
    assert differing(tokenizer, random_unicode(3000)) == []


def test_exported_directory_loads_as_a_fast_tokenizer(tokenizer: Tokenizer, tmp_path: Path) -> None:
    # A model's configuration beside it must not make transformers choose ConvBERT's own class.
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "convbert"}))
    save_hf_tokenizer(tokenizer, tmp_path, 128)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.is_fast
    assert loaded.model_max_length == 128
    assert len(loaded) == tokenizer.vocab_size
    first, second = tokenizer.encode_batch([SENTENCE, "A second one."])
    cls, sep = tokenizer.cls_id, tokenizer.sep_id
    assert loaded(SENTENCE)["input_ids"] == [cls, *first, sep]
    pair = loaded(SENTENCE, "A second one.")
    assert pair["input_ids"] == [cls, *first, sep, *second, sep]
    assert pair["token_type_ids"] == [0] * (len(first) + 2) + [1] * (len(second) + 1)
    padded = loaded([SENTENCE, "short"], padding=True)
    assert padded["input_ids"][1][-1] == tokenizer.pad_id == loaded.pad_token_id
    assert padded["attention_mask"][1][-1] == 0
    assert loaded(SENTENCE * 50, truncation=True)["input_ids"][-1] == sep
    assert len(loaded(SENTENCE * 50, truncation=True)["input_ids"]) == 128
    assert loaded("a [MASK] b")["input_ids"].count(tokenizer.mask_id) == 1


@pytest.mark.parametrize(
    ("text", "spaced"),
    [("quick[MASK]brown", False), ("quick [MASK] brown", True), ("[MASK]、です", False)],
)
def test_behind_a_mask_is_a_space_only_where_the_text_has_one(
    tokenizer: Tokenizer, text: str, spaced: bool
) -> None:
    tokens = fast_tokenizer(tokenizer).encode(text, add_special_tokens=False).tokens
    assert tokens[tokens.index("[MASK]") + 1].startswith(SPACE) == spaced


def test_exported_tokenizer_decodes_like_the_original(tokenizer: Tokenizer, tmp_path: Path) -> None:
    save_hf_tokenizer(tokenizer, tmp_path, 128)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    ids = loaded(SENTENCE + " 漢字 😀")["input_ids"]
    text = loaded.decode(ids, skip_special_tokens=True)
    assert text == tokenizer.decode(ids)
    composed = unicodedata.normalize("NFKC", text)  # a tokenizer without normalization left "ﬁ"
    assert composed.lower() == unicodedata.normalize("NFKC", SENTENCE).lower() + " 漢字 😀"


def test_word_piece_vocabulary_is_exported_with_its_file(vocabulary: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(vocabulary)
    save_hf_tokenizer(tokenizer, tmp_path, 64)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert (tmp_path / "vocab.txt").read_text() == (vocabulary / "vocab.txt").read_text()
    ids = loaded("The QUICK brown café xyz ☃")["input_ids"]
    words = ["[CLS]", "the", "quick", "brown", "cafe", "x", "##y", "##z", "[UNK]", "[SEP]"]
    assert loaded.convert_ids_to_tokens(ids) == words
    assert ids[1:-1] == tokenizer.encode_batch(["The QUICK brown café xyz ☃"])[0]


def test_special_tokens_in_text_stay_text_in_training_data(
    tokenizer: Tokenizer, vocabulary: Path
) -> None:
    for one in (tokenizer, Tokenizer.load(vocabulary)):
        special = {one.cls_id, one.sep_id, one.mask_id, one.pad_id}
        ids = one.encode_batch(["[CLS] a [SEP] b [MASK] [PAD]"])[0]
        assert len(ids) > 10
        assert not special & set(ids)


def test_export_is_refused_when_ids_would_differ(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shifted = fast_tokenizer(tokenizer)
    shifted.normalizer = None
    with pytest.raises(UserError, match=r"other ids for .*; train"):
        check_identical(tokenizer, shifted)
    monkeypatch.setattr(
        "convbert.data_pipeline.tokenizer.hugging_face.fast_tokenizer", lambda _: shifted
    )
    with pytest.raises(UserError):
        save_hf_tokenizer(tokenizer, tmp_path / "out", 64)
    assert not (tmp_path / "out").exists()
    assert len(set(TRICKY)) == len(TRICKY)
