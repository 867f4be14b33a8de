"""The best-known community models keep their tokens and their hidden states on import."""

import gettext
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
import torch
import transformers
from community_models import COMMUNITY, JAPANESE, SENTENCES, Published
from tokenizers import BertWordPieceTokenizer
from transformers import AutoModel, AutoTokenizer

from convbert.data_pipeline.corpora import Wheel, unpacked
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import UserError
from convbert.models.interop.hf import load_pretrained
from convbert.pretrain.exchange.importing import import_weights
from convbert.pretrain.exchange.tokenizer_import import TokenizerChoice

SMALL = {"num_hidden_layers": 2, "hidden_size": 48, "embedding_size": 16, "intermediate_size": 64}
# Translations of two programs for the web: 1,000 lines and more in each language.
TRANSLATIONS = (
    Wheel("django==5.2.8", "37e687f7bd73ddf043e2b6b97cfe02fcbb11f2dbb3adccc6a2b18c6daa054d7f"),
    Wheel("wagtail==7.0", "6a254ef84a740689dd844aabc5254828ecb62840257721e639929cb0e1a2b3c1"),
)
# One model of each combination of settings, for every suite.
DIFFERENT = (
    "dbmdz/convbert-base-turkish-cased",
    "german-nlp-group/electra-base-german-uncased",
    "mrm8488/electricidad-base-discriminator",
    "dbmdz/electra-base-italian-xxl-cased-discriminator",
    "hfl/chinese-electra-180g-base-discriminator",
    "YituTech/conv-bert-medium-small",
)
# English is what the programs were written in: the originals of any translation.
CODES = {"tr": "tr|tr_TR", "zh": "zh_Hans", "en": "de"}


def varied(texts: Iterable[str]) -> list[str]:
    """The texts, and some of them with capitals, without, and with accents apart."""
    lines = list(dict.fromkeys(texts))
    others = [line.upper() for line in lines[::3]] + [line.lower() for line in lines[1::3]]
    return lines + others + [unicodedata.normalize("NFD", line) for line in lines[2::3]]


def publish(
    folder: Path, model: Published, texts: Sequence[str], vocab_size: int, shape: dict[str, object]
) -> Path:
    """Write a directory as the model's authors did: random weights, a vocabulary of the texts."""
    folder.mkdir()
    trained = BertWordPieceTokenizer(
        lowercase=model.lowercase,
        strip_accents=model.lowercase and not model.accents,
        handle_chinese_chars=model.chinese,
    )
    trained.train_from_iterator(texts, vocab_size=vocab_size, min_frequency=1, show_progress=False)
    words = trained.get_vocab()
    vocabulary = "".join(f"{word}\n" for word in sorted(words, key=words.__getitem__))
    (folder / "vocab.txt").write_text(vocabulary, encoding="utf-8")
    if model.tokenizer is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(model.tokenizer))
    if model.fast:
        trained.save(str(folder / "tokenizer.json"))
    for name, content in model.files.items():
        (folder / name).write_text(content)
    config = model.config | shape | {"vocab_size": len(words) + model.spare}
    torch.manual_seed(0)
    kind = getattr(transformers, model.config["architectures"][0])
    made = kind(transformers.AutoConfig.for_model(**config))
    for name, parameter in made.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("LayerNorm.weight" in name), std=0.05)
    torch.save(made.state_dict(), folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def assert_equal_tokens(source: Path, imported: Path, texts: Sequence[str]) -> None:
    theirs = AutoTokenizer.from_pretrained(source)(texts, add_special_tokens=False)["input_ids"]
    ours = Tokenizer.load(imported).encode_batch(texts)
    again = AutoTokenizer.from_pretrained(imported)(texts, add_special_tokens=False)["input_ids"]
    for text, expected, found, kept in zip(texts, theirs, ours, again, strict=True):
        assert found == expected == kept, text


def assert_equal_states(source: Path, imported: Path, tokenizer_of: Path, texts: list[str]) -> None:
    """Padding included, which transformers' ConvBERT does not hide from the convolution."""
    tokenizer = Tokenizer.load(tokenizer_of)
    rows = [row[:60] for row in tokenizer.encode_batch(texts)]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [tokenizer.pad_id] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    theirs = AutoModel.from_pretrained(source).eval()
    again = AutoModel.from_pretrained(imported).eval()
    with torch.no_grad():
        expected = theirs(ids, attention_mask=mask).last_hidden_state[mask.bool()]
        for found in (
            load_pretrained(imported)(ids, attention_mask=mask),
            again(ids, attention_mask=mask).last_hidden_state,
        ):
            assert (found[mask.bool()] - expected).abs().max() < 1e-5


@pytest.mark.parametrize("name", DIFFERENT)
def test_tokens_and_states_stay(name: str, tmp_path: Path) -> None:
    model = COMMUNITY[name]
    texts = varied(SENTENCES[model.language])
    source = publish(tmp_path / "source", model, texts, 300, SMALL)
    _, note = import_weights(source, tmp_path / "imported")
    assert ("have no token" in note) == bool(model.spare)
    assert_equal_tokens(source, tmp_path / "imported", texts)
    assert_equal_states(source, tmp_path / "imported", tmp_path / "imported", texts[:3])


@pytest.mark.parametrize(("model", "reason"), JAPANESE.values(), ids=JAPANESE.keys())
def test_words_cut_by_other_programs_are_refused(
    model: Published, reason: str, tmp_path: Path
) -> None:
    texts = SENTENCES["ja"]
    source = publish(tmp_path / "source", model, texts, 200, SMALL)
    with pytest.raises(UserError, match=f"{reason}.* cannot be done here.*--no-tokenizer") as said:
        import_weights(source, tmp_path / "imported")
    assert "\n" not in str(said.value)
    with pytest.raises(UserError, match=reason):
        Tokenizer.load(source)
    assert not (tmp_path / "imported").exists()
    _, note = import_weights(source, tmp_path / "imported", tokenizer=TokenizerChoice(none=True))
    assert note == "left out"
    assert not list((tmp_path / "imported").glob("*token*"))
    ids = torch.arange(40).view(2, 20)
    with torch.no_grad():
        expected = AutoModel.from_pretrained(source).eval()(ids).last_hidden_state
        assert (load_pretrained(tmp_path / "imported")(ids) - expected).abs().max() < 1e-5


@pytest.fixture(scope="module")
def lines() -> dict[str, list[str]]:
    """Real text: lines of two programs' translations, by language."""
    found: dict[str, dict[str, None]] = {language: {} for language in SENTENCES}
    for wheel in TRANSLATIONS:
        with unpacked(wheel) as archive:
            for language, known in found.items():
                code = CODES.get(language, language)
                path = re.compile(rf".*/locale/({code})/LC_MESSAGES/\w+\.mo")
                for name in filter(path.fullmatch, archive.namelist()):
                    catalog = gettext.GNUTranslations(io.BytesIO(archive.read(name)))._catalog
                    for original, translated in catalog.items():
                        text = original if language == "en" else translated
                        if isinstance(text, str) and original:
                            known |= dict.fromkeys(filter(None, map(str.strip, text.splitlines())))
    return {language: varied(known) for language, known in found.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMUNITY)
def test_a_thousand_sentences_in_the_published_width(
    name: str, lines: dict[str, list[str]], tmp_path: Path
) -> None:
    model = COMMUNITY[name]
    texts = lines[model.language]
    assert len(texts) >= 1000
    source = publish(tmp_path / "source", model, texts, 3000, {"num_hidden_layers": 1})
    import_weights(source, tmp_path / "imported")
    assert_equal_tokens(source, tmp_path / "imported", texts)
    assert_equal_states(source, tmp_path / "imported", tmp_path / "imported", texts[:20])
