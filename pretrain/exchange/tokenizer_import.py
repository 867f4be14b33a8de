"""The tokenizer that belongs to weights from elsewhere: carried over exactly, or refused."""

import json
from dataclasses import dataclass
from pathlib import Path

from convbert.data_pipeline.tokenizer.encoders import MODEL, VOCABULARY, fast_file
from convbert.data_pipeline.tokenizer.hugging_face import TRICKY, fast_tokenizer
from convbert.data_pipeline.tokenizer.settings import (
    FAST,
    HF_SETTINGS,
    WordPieceSettings,
    refuse_other_kinds,
    stated_settings,
)
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.architecture import EncoderConfig
from convbert.models.errors import UserError
from convbert.models.interop.vocab import read_vocab, require_sound_vocab

# What other tokenizers are kept in; one of them alone would otherwise be lost without a word.
_OTHERS = ("spiece.model", "sentencepiece.bpe.model", "spm.model", "vocab.json", "tokenizer.bin")
# Vocabularies of lower-cased text have hardly any word with a capital, others very many.
_CASED_SHARE = 0.02


@dataclass(frozen=True)
class TokenizerChoice:
    """What the user says about the tokenizer.

    ``vocab`` is a ``vocab.txt`` to take, ``cased`` whether capitals count where no file says so,
    and ``none`` leaves the tokenizer out.
    """

    vocab: Path | None = None
    cased: bool | None = None
    none: bool = False

    def __post_init__(self) -> None:
        if self.none and (self.vocab is not None or self.cased is not None):
            raise UserError("--no-tokenizer takes no tokenizer: leave out --vocab and --cased")


OWN_TOKENIZER = TokenizerChoice()


def take_tokenizer(place: Path, choice: TokenizerChoice, folder: Path) -> Tokenizer | None:
    """Return the tokenizer of the weights in ``place``, or None where there is none.

    ``folder`` is where a ``vocab.txt`` and its settings are put. Raises ``UserError`` naming file
    and key for a tokenizer that cannot be carried over: of another kind, damaged, or with settings
    that are missing or contradict each other.
    """
    if choice.none:
        return None
    present = next((n for n in (MODEL, VOCABULARY, FAST) if (place / n).is_file()), None)
    if choice.vocab is None and present is None:
        _require_none(place)
        return None
    if choice.vocab is None and present != VOCABULARY:
        if choice.cased is not None:
            raise UserError(f"{place / str(present)}: says itself what it does: leave out --cased")
        tokenizer = Tokenizer.load(place)
    else:
        tokenizer = _word_piece(place, choice, folder)
    if choice.vocab is None and tokenizer.file.name != FAST and (place / FAST).is_file():
        _require_agreement(tokenizer, place / FAST)
    return tokenizer


def fit(tokenizer: Tokenizer, config: EncoderConfig) -> str:
    """Return one line on a tokenizer; raises ``UserError`` if it has ids that the model lacks."""
    ids, rows = tokenizer.vocab_size, config.vocab_size
    if ids > rows:
        raise UserError(
            f"{tokenizer.file}: {ids:,} ids, but the model has {rows:,} (vocab_size): take the "
            "tokenizer that it was trained with"
        )
    more = f"; the model's last {rows - ids:,} of {rows:,} ids have no token" if ids < rows else ""
    return f"sound, {ids:,} ids{more}"


def _require_none(place: Path) -> None:
    """Raise ``UserError`` for a place that has a tokenizer of another kind."""
    refuse_other_kinds(place)
    for name in _OTHERS:
        if (place / name).is_file():
            raise UserError(
                f"{place / name}: such a tokenizer is not read, only {MODEL}, {VOCABULARY} or "
                f"{FAST}: save it as {FAST} with transformers, or give --no-tokenizer"
            )


def _word_piece(place: Path, choice: TokenizerChoice, folder: Path) -> Tokenizer:
    """Put a vocabulary and its settings into ``folder``."""
    path = choice.vocab or place / VOCABULARY
    require_sound_vocab(path)
    settings = _settings(path, place, choice.cased)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / VOCABULARY).write_bytes(path.read_bytes())
    (folder / HF_SETTINGS).write_text(json.dumps(settings.to_hugging_face()), encoding="utf-8")
    return Tokenizer.load(folder)


def _settings(path: Path, place: Path, cased: bool | None) -> WordPieceSettings:
    """Put together what is stated beside the weights, beside the vocabulary, and by the user."""
    stated = stated_settings(place)
    for name, value in stated_settings(path.parent).items():
        if stated.setdefault(name, value) != value:
            raise UserError(
                f"{path.parent / HF_SETTINGS}: contradicts the one in {place} on {name}: correct "
                "the one that the model was not trained with"
            )
    if cased is not None and stated.setdefault("lowercase", not cased) == cased:
        said = "--cased" if cased else "--uncased"
        raise UserError(f"{place}: its files say do_lower_case={cased}: leave out {said}")
    if "lowercase" not in stated and _looks_cased(path):
        raise UserError(
            f"{path}: many of its words have capitals, and no {HF_SETTINGS} beside it says whether "
            "text is lower-cased: give --cased, or --uncased"
        )
    return WordPieceSettings.model_validate(stated)


def _looks_cased(path: Path) -> bool:
    words = [word for word in read_vocab(path) if not word.startswith("[")]
    return sum(word != word.lower() for word in words) > _CASED_SHARE * len(words)


def _require_agreement(tokenizer: Tokenizer, path: Path) -> None:
    """Raise ``UserError`` unless ``tokenizer.json`` is another spelling of the same tokenizer."""
    theirs, ours = fast_file(path), fast_tokenizer(tokenizer)
    words = {piece: number for number, piece in enumerate(tokenizer.pieces())}
    differs = theirs.get_vocab() != words
    for text in TRICKY:
        ids = [t.encode(text, add_special_tokens=False).ids for t in (theirs, ours)]
        differs = differs or ids[0] != ids[1]
    if differs:
        raise UserError(
            f"{path}: gives other ids than {tokenizer.file.name} beside it: remove the one that "
            "the model was not trained with"
        )
