"""Training, loading and identity of tokenizers."""

import json
import os
import random
import signal
import string
import threading
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from convbert.data_pipeline.tokenizer.hugging_face import save_hf_tokenizer
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.data_pipeline.tokenizer.training import ModelType, sample_texts, train_tokenizer
from convbert.models.errors import UserError

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def train(texts: Iterable[str], folder: Path, **settings: object) -> Tokenizer:
    options = {"vocab_size": 400, "model_type": "bpe", "threads": 1, **settings}
    return train_tokenizer(texts, folder, **options)  # type: ignore[arg-type]


def vocabulary(folder: Path, *extra: str) -> Path:
    letters = string.ascii_letters + "é"
    pieces = [*SPECIAL, *letters, *(f"##{c}" for c in letters), *extra]
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_ids_return_the_text(tmp_path: Path, documents: list[str], model_type: ModelType) -> None:
    tokenizer = train(documents, tmp_path / "t", vocab_size=800, model_type=model_type)
    assert [tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id] == [0, 1, 2]
    assert [tokenizer.sep_id, tokenizer.mask_id, tokenizer.vocab_size] == [3, 4, 800]
    texts = [unicodedata.normalize("NFKC", t) for text in documents[:20] for t in text.split("\n")]
    texts = [text for text in texts if text.strip()]
    texts += ["naïve café, 你好 \U0001f600!", "[MASK] is text, so are <0x41> and [SEP]"]
    encoded = tokenizer.encode_batch(texts)
    for text, ids in zip(texts, encoded, strict=True):
        assert tokenizer.decode([tokenizer.cls_id, *ids, tokenizer.sep_id, 0]) == " ".join(
            text.split()
        )
        assert min(ids) > tokenizer.mask_id


def test_equivalent_spellings_have_equal_ids(tokenizer_dir: Path) -> None:
    spellings = ["é ệ 한 fi", "e\u0301 e\u0302\u0323 \u1112\u1161\u11ab \ufb01"]
    first, second = Tokenizer.load(tokenizer_dir).encode_batch(spellings)
    assert first == second


def test_a_non_joiner_that_is_spelling_stays(tmp_path: Path) -> None:
    persian = ["می\u200cخوانم و کتاب\u200cها را می\u200cخوانند"] * 50
    spelled = train([*persian, "a\tb"], tmp_path / "fa", vocab_size=320)
    pieces = "".join(spelled.pieces()[i] for i in spelled.encode_batch(persian[:1])[0])
    assert pieces.replace("▁", " ").strip() == persian[0]
    assert spelled.decode(spelled.encode_batch(["a\tb\u200bc"])[0]) == "a b c"  # other rules stay
    assert "keeps" in json.loads((tmp_path / "fa" / "settings.json").read_text())
    # Elsewhere it is an accident, and sentencepiece's own rule makes it a space as before.
    latin = ["an acci\u200cdent of a web page"] * 50
    plain = train(latin, tmp_path / "en", vocab_size=300)
    assert plain.decode(plain.encode_batch(latin[:1])[0]) == "an acci dent of a web page"
    assert "keeps" not in json.loads((tmp_path / "en" / "settings.json").read_text())


def test_the_normalization_is_an_option(tmp_path: Path) -> None:
    text = "ﬁne ½\u200cÅngström e\u0301"
    found = {}
    for rule in ("nmt_nfkc", "nfkc", "identity"):
        tokenizer = train([text] * 50, tmp_path / rule, vocab_size=300, normalization=rule)
        found[rule] = tokenizer.decode(tokenizer.encode_batch([text])[0])
    composed = unicodedata.normalize("NFKC", text)
    assert found["identity"] == text
    assert found["nfkc"] == composed
    assert found["nmt_nfkc"] == composed.replace("\u200c", " ")
    unread = iter([text])
    with pytest.raises(UserError, match="'identity' has none; choose nmt_nfkc or nfkc"):
        train(unread, tmp_path / "x", normalization="identity", lowercase=True)
    assert next(unread) == text


def test_training_ends_at_an_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted = threading.Event()

    def train_on(**options: object) -> None:
        """Go on whatever comes, as code in C++ does."""
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            interrupted.wait(10)
        interrupted.wait(0.5)

    monkeypatch.setattr(sentencepiece.SentencePieceTrainer, "Train", train_on)
    with pytest.raises(KeyboardInterrupt):
        train(["some text"], tmp_path / "x")
    interrupted.set()
    assert not os.listdir(tmp_path)


def test_a_long_line_is_part_of_the_training_text(tmp_path: Path) -> None:
    rng = random.Random(0)
    words = ["".join(rng.choices("bdklmnrst", k=6)) for _ in range(40)]
    long = " ".join(rng.choices(words, k=20_000))
    tokenizer = train(["some other words"] * 50 + [long], tmp_path / "t", vocab_size=450)
    assert all(len(ids) < 5 for ids in tokenizer.encode_batch(words))
    unbroken = train(["ab" * 50_000], tmp_path / "u", vocab_size=268)
    assert len(unbroken.encode_batch(["ab" * 9])[0]) < 9


def test_rare_ascii_has_pieces_unless_the_vocabulary_is_tiny(tmp_path: Path) -> None:
    texts = ["only some common words are here"] * 999 + ["K? (no)", "\u00e9"]

    def bytes_of(text: str, **settings: object) -> int:
        name = f"t{len(list(tmp_path.iterdir()))}"
        tokenizer = train(texts, tmp_path / name, character_coverage=0.99, **settings)
        pieces = tokenizer.pieces()
        return sum(pieces[i].startswith("<0x") for i in tokenizer.encode_batch([text])[0])

    room = {"vocab_size": 310}
    assert bytes_of("K? (no) \u00e9", **room) == 2
    assert bytes_of("K? (no)", **room, ascii=False) > 2
    assert bytes_of("k? (no)", **room, lowercase=True) == 0
    assert bytes_of("K? (no)", vocab_size=285) > 2
    settings = json.loads((tmp_path / "t0" / "settings.json").read_text())
    assert set("K?()") < set(settings["required_chars"])


def test_training_repeats_itself_and_ignores_the_order_of_documents(
    tmp_path: Path, documents: list[str]
) -> None:
    first = train(documents, tmp_path / "1")
    assert train(documents[::-1], tmp_path / "2").digest == first.digest
    # Of equal lines all or none are in the sample, so its size is exact where all differ.
    lines = list(dict.fromkeys(line.strip() for text in documents for line in text.splitlines()))
    sample = {"max_sentences": 300}
    some = train(lines, tmp_path / "3", **sample)
    assert train(lines[::-1], tmp_path / "4", **sample).digest == some.digest
    assert train(lines, tmp_path / "5", seed=1, **sample).digest != some.digest
    settings = json.loads((tmp_path / "3" / "settings.json").read_text())
    assert settings["sample_lines"] == 300
    assert settings["num_threads"] == 1


@pytest.mark.parametrize(
    ("texts", "vocab_size", "message"),
    [
        ([" ", ""], 400, "the input holds no text"),
        (["few words"] * 20, 5000, r"too high.*use more text or a smaller vocab_size"),
        (["few words"] * 20, 100, r"vocab_size 100 cannot hold .* 269\); use a larger vocab_size"),
        (
            ["人人生而自由在尊严和权利上一律平等"] * 20,
            270,
            "270 cannot hold .* use a larger vocab_size",
        ),
    ],
)
def test_unusable_training_text_is_refused(
    tmp_path: Path, texts: list[str], vocab_size: int, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        train(texts, tmp_path / "t", vocab_size=vocab_size)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "t").exists()


def test_case_is_part_of_a_vocabularys_identity_and_survives_export(tmp_path: Path) -> None:
    folder = vocabulary(tmp_path / "v", "the", "The")
    uncased = Tokenizer.load(folder)
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    cased = Tokenizer.load(folder)
    assert uncased.encode_batch(["The"]) != cased.encode_batch(["The"])
    assert uncased.digest != cased.digest
    save_hf_tokenizer(cased, tmp_path / "export", 128)
    again = Tokenizer.load(tmp_path / "export")
    assert again.digest == cased.digest
    assert again.encode_batch(["The thé"]) == cased.encode_batch(["The thé"])


def test_a_damaged_vocabulary_is_refused(tmp_path: Path) -> None:
    damaged = [sign.encode().decode("gbk", "replace") for sign in "“”‘’–—…"]
    folder = vocabulary(tmp_path / "v", *damaged)
    lines = [p for p in (folder / "vocab.txt").read_text("utf-8").split("\n") if "é" not in p]
    (folder / "vocab.txt").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(UserError, match="damaged vocabulary"):
        Tokenizer.load(folder)


def test_what_is_no_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no tokenizer .* there; train one"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a sentencepiece model"):
        Tokenizer.load(tmp_path)
    folder = vocabulary(tmp_path / "v")
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\na\n")
    with pytest.raises(UserError, match=r"lacks \[CLS\], \[SEP\], \[MASK\]"):
        Tokenizer.load(folder)
    (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(UserError, match=r"tokenizer_config.json: not a JSON file"):
        Tokenizer.load(folder)


@given(
    lines=st.lists(st.text("abc", max_size=6), max_size=30),
    limit=st.integers(1, 20),
    characters=st.integers(1, 40),
    shuffle=st.randoms(use_true_random=False),
)
def test_the_sample_is_bounded_and_does_not_depend_on_the_order(
    lines: list[str], limit: int, characters: int, shuffle: random.Random
) -> None:
    kept = sample_texts(lines, limit, characters, 7)
    assert len(kept) <= limit
    assert sum(map(len, kept)) <= characters
    assert sample_texts(shuffle.sample(lines, len(lines)), limit, characters, 7) == kept
    everything = sample_texts(lines, 100, 1000, 7)
    assert len(everything) == sum(1 for line in lines if line)
    assert set(kept) <= set(everything)
