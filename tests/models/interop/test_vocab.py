"""Vocabularies: the published damage is recognized, sound files of any language are not accused."""

import json

import pytest

from convbert.models.architecture import EncoderConfig
from convbert.models.encoder import Encoder
from convbert.models.errors import UserError
from convbert.models.interop.hf import load_pretrained, save_pretrained
from convbert.models.interop.vocab import inspect_vocab, require_sound_vocab

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ASCII = [f"word{number}" for number in range(200)]
# The kinds of entries that BERT's uncased vocabulary has beyond ASCII.
BEYOND_ASCII = [
    *"“”‘’–—…£€°•×¡¢§©«®±²³´µ¶·¹º»¼½¾¿ßæðøþđħıłŋœƒɐɑɒɔɕəɛɡɣɨɪɫɬɯɲɴɹɾʀʁʂʃʉʊʋʌʎʐʑʒʔ",
    *"αβγδεζηθικλμνξοπρςστυφχψωабвгдежзиклмнопрстуфхцчшщыьэюяабبتحدرسعفقكلم",
    *"अआउएकखगचजटडणतथदधनपबभमयरलवशषसहাািীেকতনবযরলশসก",
    *"一三上下不世中主久之也事二五井京人今仁元光八公内出分前力加勝北区十千",
    *"あいうえおかがきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよ",
    *(f"##{letter}" for letter in "αβγабвअआकখーカキ一三上"),
]


def write(path, tokens, ending="\n"):
    path.write_bytes("".join(token + ending for token in tokens).encode())
    return path


def damaged(tokens):
    """Read each line as GBK with its line end, as an editor would, and keep what comes out."""
    content = ("\n".join(tokens) + "\n").encode()
    lines = content.split(b"\n")[:-1]
    return [line.decode("gbk", errors="replace") for line in lines]


@pytest.fixture
def sound_tokens():
    return list(dict.fromkeys(SPECIAL + ASCII + BEYOND_ASCII))


def test_sound_vocabulary_passes(tmp_path, sound_tokens):
    report = require_sound_vocab(write(tmp_path / "vocab.txt", sound_tokens))
    assert report.entries == report.distinct == len(sound_tokens)
    assert report.missing == ""
    assert not report.crlf


def test_published_damage_is_recognized_and_described(tmp_path, sound_tokens):
    path = write(tmp_path / "vocab.txt", damaged(sound_tokens), ending="\r\n")
    report = inspect_vocab(path)
    assert report.crlf
    assert report.wrongly_decoded
    assert report.entries == len(sound_tokens)
    assert report.distinct < report.entries
    assert report.mojibake > 0.9 * report.non_ascii
    assert set("“”‘’–—…") <= set(report.missing)
    with pytest.raises(UserError) as refused:
        require_sound_vocab(path)
    message = str(refused.value)
    assert str(path) in message
    assert f"only {report.distinct} distinct" in message
    assert "UTF-8 read as GBK" in message
    assert "BERT's uncased vocab.txt" in message
    assert "\n" not in message


def test_damage_without_duplicates_is_recognized(tmp_path):
    path = write(tmp_path / "vocab.txt", [*SPECIAL, *damaged(list("éèàüöñ"))])
    report = inspect_vocab(path)
    assert report.distinct == report.entries
    assert not report.sound


def test_real_chinese_is_not_taken_for_damage(tmp_path):
    common = [chr(code) for code in range(0x4E00, 0x9FA5)]
    report = require_sound_vocab(write(tmp_path / "vocab.txt", SPECIAL + common))
    assert report.mojibake < 0.3 * report.non_ascii


@pytest.mark.parametrize("alphabet", ["éèàüöñßøå", "абвгдежз", "αβγδεζ", "あいうえお", "😀😁😂"])
def test_other_alphabets_are_not_taken_for_damage(tmp_path, alphabet):
    require_sound_vocab(write(tmp_path / "vocab.txt", [*SPECIAL, *alphabet]))


def test_line_ends_alone_are_no_damage(tmp_path, sound_tokens):
    report = require_sound_vocab(write(tmp_path / "vocab.txt", sound_tokens, ending="\r\n"))
    assert report.crlf
    assert report.entries == len(sound_tokens)


def test_duplicates_alone_are_damage(tmp_path):
    path = write(tmp_path / "vocab.txt", [*SPECIAL, "word", "word"])
    with pytest.raises(UserError, match="7 entries, only 6 distinct"):
        require_sound_vocab(path)


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"vocab\.txt: no such file"):
        inspect_vocab(tmp_path / "vocab.txt")
    (tmp_path / "vocab.txt").write_bytes("[PAD]\né\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"vocab\.txt: not UTF-8 at byte 6"):
        inspect_vocab(tmp_path / "vocab.txt")


@pytest.mark.parametrize(
    ("declared", "vocabulary", "expected"),
    [
        (0, None, 0),
        (7, None, 7),
        (None, None, 0),
        # transformers' default for ConvBERT, beside a vocabulary that knows better.
        (1, "[PAD]\r\n[UNK]\r\n", 0),
        (1, "[UNK]\nword\n[PAD]\n", 2),
        (1, "word\n", 1),
    ],
)
def test_padding_id_follows_the_vocabulary_before_the_configuration(
    tmp_path, declared, vocabulary, expected
):
    small = {"vocab_size": 60, "hidden_size": 16, "embedding_size": 16, "num_layers": 1}
    small |= {"num_heads": 2, "intermediate_size": 16}
    save_pretrained(Encoder(EncoderConfig(**small)), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"pad_token_id": declared}))
    if vocabulary is not None:
        (tmp_path / "vocab.txt").write_text(vocabulary, newline="")
    assert load_pretrained(tmp_path).config.pad_token_id == expected
