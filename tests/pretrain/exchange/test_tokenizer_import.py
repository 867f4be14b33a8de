"""A tokenizer beside imported weights keeps every setting, or is refused in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer as FastTokenizer
from transformers import AutoTokenizer, BertTokenizer

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import DamagedError, UserError
from convbert.models.interop.hf import load_pretrained, save_pretrained
from convbert.models.interop.hf_config import read_config
from convbert.models.presets import preset
from convbert.models.pretraining import build_model
from convbert.pretrain.exchange.export import save_tokenizer
from convbert.pretrain.exchange.importing import import_weights
from convbert.pretrain.exchange.tokenizer_import import TokenizerChoice

SHAPE = {"num_layers": 1, "hidden_size": 32, "embedding_size": 32, "num_heads": 4}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, "the", "house", "##s", "é", "e", "“", "ab", "中", "##国", "国", "##é"]
CAPITALS = [*WORDS, "The", "House", "THE"]
TEXTS = ["The House", "the houses “é", "Ab THE é", "中国 e\u0301"]
SETTINGS = "tokenizer_config.json"


def weights(folder: Path, vocab_size: int) -> Path:
    torch.manual_seed(0)
    save_pretrained(build_model(preset("tiny", vocab_size=vocab_size, **SHAPE)), folder)
    return folder


def source(folder: Path, words: list[str] = WORDS, settings: dict[str, Any] | None = None) -> Path:
    """Weights as other software leaves them, with a vocabulary and settings of it."""
    weights(folder, len(words))
    vocabulary(folder, words)
    if settings is not None:
        (folder / SETTINGS).write_text(json.dumps(settings))
    return folder


def vocabulary(folder: Path, words: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    return folder / "vocab.txt"


def take(folder: Path, output: Path, **choice: Any) -> str:
    return import_weights(folder, output, tokenizer=TokenizerChoice(**choice))[1]


def theirs(folder: Path) -> list[list[int]]:
    return AutoTokenizer.from_pretrained(folder)(TEXTS, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(
    ("lower", "accents", "chinese"),
    [
        (True, None, True),
        (True, False, True),
        (True, True, False),
        (False, None, True),
        (False, False, False),
        (False, True, True),
    ],
)
def test_settings_are_carried_over(
    lower: bool, accents: bool | None, chinese: bool, tmp_path: Path
) -> None:
    settings = {
        "do_lower_case": lower,
        "strip_accents": accents,
        "tokenize_chinese_chars": chinese,
        "tokenizer_class": "ElectraTokenizer",
    }
    folder = source(tmp_path / "hf", CAPITALS, settings)
    expected = theirs(folder)
    assert f"sound, {len(CAPITALS)} ids" in take(folder, tmp_path / "out")
    imported = Tokenizer.load(tmp_path / "out")
    assert imported.encode_batch(TEXTS) == expected == theirs(tmp_path / "out")
    assert Tokenizer.load(folder).digest == imported.digest
    take(tmp_path / "out", tmp_path / "again")
    assert Tokenizer.load(tmp_path / "again").digest == imported.digest


def test_settings_make_different_tokenizers(tmp_path: Path) -> None:
    folder = source(tmp_path / "hf", CAPITALS)
    (folder / SETTINGS).write_text("{}")
    digests = {Tokenizer.load(folder).digest}
    for key, value in (
        ("do_lower_case", False), ("strip_accents", False), ("tokenize_chinese_chars", False),
    ):  # fmt: skip
        (folder / SETTINGS).write_text(json.dumps({key: value}))
        digests.add(Tokenizer.load(folder).digest)
    assert len(digests) == 4
    (folder / SETTINGS).write_text('{"do_lower_case": true, "strip_accents": true}')
    assert Tokenizer.load(folder).digest in digests  # these are BERT's own


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "class": ({"tokenizer_class": "BertJapaneseTokenizer"}, "'BertJapaneseTokenizer' cuts text"),
    "mecab": ({"word_tokenizer_type": "mecab"}, "word_tokenizer_type='mecab'"),
    "never split": ({"never_split": ["the"]}, r"never_split=\['the'\]"),
    "no words": ({"do_basic_tokenize": False}, "do_basic_tokenize=False"),
    "code": ({"auto_map": {"AutoTokenizer": ["a.B", None]}}, "auto_map names code"),
    "mask": ({"mask_token": "<mask>"}, r"mask_token='<mask>' is not \[MASK\]"),
    "no boolean": ({"do_lower_case": "no"}, "do_lower_case='no' is neither true nor false"),
    "added": (
        {"added_tokens_decoder": {"9": {"content": "abc", "special": False}}},
        "adds 'abc' to the vocabulary",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_done_here_is_refused(
    settings: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    folder = source(tmp_path / "hf", settings=settings)
    with pytest.raises(UserError, match=rf"tokenizer_config\.json: .*{reason}") as said:
        take(folder, tmp_path / "out")
    assert "\n" not in str(said.value)
    assert not (tmp_path / "out").exists()


def test_words_added_in_a_file_of_their_own_are_refused(tmp_path: Path) -> None:
    folder = source(tmp_path / "hf")
    (folder / "added_tokens.json").write_text('{"[MASK]": 4, "brexit": 11}')
    with pytest.raises(UserError, match=r"added_tokens\.json: 'brexit' is added"):
        take(folder, tmp_path / "out")


def test_more_ids_than_rows_are_refused_and_fewer_are_said(tmp_path: Path) -> None:
    folder = source(tmp_path / "hf")
    vocabulary(folder, [*WORDS, "more"])
    with pytest.raises(UserError, match=r"vocab\.txt: 17 ids, but the model has 16"):
        take(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    vocabulary(folder, WORDS[:-2])
    assert "last 2 of 16 ids have no token" in take(folder, tmp_path / "out")


def test_a_damaged_vocabulary_is_refused_and_another_one_taken(tmp_path: Path) -> None:
    folder = source(tmp_path / "hf")
    mangled = "\n".join(WORDS).encode().decode("gbk", "replace")
    (folder / "vocab.txt").write_text(mangled.replace("\n", "\r\n"), encoding="utf-8")
    with pytest.raises(DamagedError, match="damaged vocabulary"):
        take(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert take(folder, tmp_path / "bare", none=True) == "left out"
    assert not list((tmp_path / "bare").glob("vocab*"))
    other = vocabulary(tmp_path / "bert", WORDS)
    assert take(folder, tmp_path / "out", vocab=other) == f"{other}: sound, 16 ids"
    assert Tokenizer.load(tmp_path / "out").encode_batch(["The"]) == [[WORDS.index("the")]]


def test_a_cased_vocabulary_without_settings_needs_a_word(tmp_path: Path) -> None:
    folder = source(tmp_path / "hf", CAPITALS)
    with pytest.raises(UserError, match=r"vocab\.txt: many of its words have capitals.* --cased"):
        take(folder, tmp_path / "out")
    take(folder, tmp_path / "cased", cased=True)
    take(folder, tmp_path / "uncased", cased=False)
    found = [Tokenizer.load(tmp_path / name).encode_batch(["The"]) for name in ("cased", "uncased")]
    assert found == [[[CAPITALS.index("The")]], [[CAPITALS.index("the")]]]
    assert theirs(tmp_path / "cased") == Tokenizer.load(tmp_path / "cased").encode_batch(TEXTS)
    (folder / SETTINGS).write_text('{"do_lower_case": false}')
    with pytest.raises(UserError, match="say do_lower_case=False: leave out --uncased"):
        take(folder, tmp_path / "no", cased=False)
    with pytest.raises(UserError, match="leave out --vocab and --cased"):
        TokenizerChoice(cased=True, none=True)


def test_settings_beside_the_weights_and_the_vocabulary_must_agree(tmp_path: Path) -> None:
    folder = source(tmp_path / "hf", CAPITALS, {"do_lower_case": False})
    other = vocabulary(tmp_path / "bert", CAPITALS)
    take(folder, tmp_path / "out", vocab=other)  # as the model's own files say
    assert Tokenizer.load(tmp_path / "out").encode_batch(["The"]) == [[CAPITALS.index("The")]]
    (other.parent / SETTINGS).write_text('{"do_lower_case": true}')
    with pytest.raises(UserError, match=r"bert/tokenizer_config.json: contradicts .* lowercase"):
        take(folder, tmp_path / "no", vocab=other)


def saved_by_transformers(folder: Path, words: list[str], **settings: Any) -> Path:
    """What transformers 5 leaves: tokenizer.json and no vocab.txt."""
    vocabulary(folder, words)
    BertTokenizer(str(folder / "vocab.txt"), **settings).save_pretrained(folder)
    (folder / "vocab.txt").unlink()
    return folder


def test_a_directory_with_tokenizer_json_alone_keeps_its_tokenizer(tmp_path: Path) -> None:
    folder = saved_by_transformers(weights(tmp_path / "hf", 19), CAPITALS, do_lower_case=False)
    expected = theirs(folder)
    take(folder, tmp_path / "out")
    imported = Tokenizer.load(tmp_path / "out")
    assert imported.encode_batch(TEXTS) == expected == theirs(tmp_path / "out")
    assert imported.vocab_size == 19
    assert imported.pieces() == CAPITALS
    assert imported.decode([2, 16, 17, 7, 3]) == "The Houses"
    assert (tmp_path / "out/generator/tokenizer.json").is_file()
    assert Tokenizer.load(folder).digest == imported.digest
    # A long text is not cut, and special tokens in a text stay text.
    (row,) = imported.encode_batch(["the [MASK] " * 600])
    assert len(row) > 600
    assert imported.mask_id not in row


def damage(path: Path) -> None:
    path.write_text(path.read_text()[:-30])


def lowercase(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"do_lower_case": True}))


FAST_FAULTS: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "cut": ("tokenizer.json", damage, "not a JSON file"),
    "no tokenizer": ("tokenizer.json", lambda path: path.write_text("{}"), "not a fast tokenizer"),
    "contradiction": (
        SETTINGS,
        lowercase,
        "do_lower_case is true, but lowercase in tokenizer.json is false",
    ),
}


@pytest.mark.parametrize(("name", "change", "reason"), FAST_FAULTS.values(), ids=FAST_FAULTS.keys())
def test_a_damaged_tokenizer_json_is_refused(
    name: str, change: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    folder = saved_by_transformers(weights(tmp_path / "hf", 19), CAPITALS, do_lower_case=False)
    change(folder / name)
    with pytest.raises(UserError, match=rf"{name}: {reason}") as said:
        take(folder, tmp_path / "out")
    assert "\n" not in str(said.value)


def test_a_tokenizer_json_that_is_not_the_vocabularys_is_refused(tmp_path: Path) -> None:
    folder = saved_by_transformers(weights(tmp_path / "hf", 19), CAPITALS, do_lower_case=False)
    vocabulary(folder, CAPITALS)
    take(folder, tmp_path / "out")
    vocabulary(folder, [*CAPITALS[:-2], "THE", "House"])
    with pytest.raises(UserError, match=r"tokenizer\.json: gives other ids than vocab\.txt"):
        take(folder, tmp_path / "no")


def test_another_kind_of_tokenizer_is_not_lost_without_a_word(tmp_path: Path) -> None:
    folder = weights(tmp_path / "hf", 19)
    assert take(folder, tmp_path / "out") == "none found; give --vocab FILE to add one"
    (folder / "spiece.model").write_bytes(b"x")
    with pytest.raises(UserError, match=r"spiece\.model: such a tokenizer is not read"):
        take(folder, tmp_path / "no")


@pytest.mark.parametrize("kind", ["uncased", "cased", "sentencepiece"])
def test_export_then_import_is_the_identity(kind: str, tokenizer_dir: Path, tmp_path: Path) -> None:
    if kind == "sentencepiece":
        words = tokenizer_dir
    else:
        words = vocabulary(tmp_path / "words", CAPITALS).parent
        (words / SETTINGS).write_text(json.dumps({"do_lower_case": kind == "uncased"}))
    tokenizer = Tokenizer.load(words)
    folder = weights(tmp_path / "hf", tokenizer.vocab_size)
    save_tokenizer(tokenizer, folder, 512)
    take(folder, tmp_path / "out")
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert names == {
        str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()
    }
    for name in sorted(names - {"README.md", "generator/README.md"}):
        assert (folder / name).read_bytes() == (tmp_path / "out" / name).read_bytes(), name
    assert Tokenizer.load(tmp_path / "out").digest == tokenizer.digest
    # So it is without the file that only this project reads: tokenizer.json says the same.
    tokenizer_file = folder / tokenizer.file.name
    tokenizer_file.unlink()
    take(folder, tmp_path / "fast")
    texts = [*TEXTS, "Names are bound to objects, aren't they? 3.14"]
    assert Tokenizer.load(tmp_path / "fast").encode_batch(texts) == tokenizer.encode_batch(texts)


def test_padding_is_where_the_vocabulary_has_it(tmp_path: Path) -> None:
    words = [*WORDS[1:4], "[PAD]", *WORDS[4:]]
    folder = saved_by_transformers(weights(tmp_path / "hf", 16), words)
    fields = json.loads((folder / "config.json").read_text())
    del fields["pad_token_id"], fields["convbert_pretrain"]
    (folder / "config.json").write_text(json.dumps(fields))
    assert load_pretrained(folder).config.pad_token_id == 3
    take(folder, tmp_path / "out")
    assert Tokenizer.load(tmp_path / "out").pad_id == 3
    assert read_config(tmp_path / "out")[0].pad_token_id == 3
    assert read_config(tmp_path / "out/generator")[0].pad_token_id == 3
    assert load_pretrained(tmp_path / "out").config.pad_token_id == 3
    assert FastTokenizer.from_file(str(tmp_path / "out/tokenizer.json")).token_to_id("[PAD]") == 3
