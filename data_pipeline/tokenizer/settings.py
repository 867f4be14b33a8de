"""The settings that Hugging Face keeps beside a vocabulary, and which of them change the ids.

Tokenizers of BERT's kind are described by four files: ``vocab.txt``, ``tokenizer_config.json``,
``tokenizer.json`` (what the ``tokenizers`` library writes) and ``added_tokens.json``. What they
state and cannot be done here is refused, and so are files that contradict each other.
"""

from pathlib import Path
from typing import Any

from convbert.models.errors import UserError
from convbert.models.schema import StrictModel, read_json

HF_SETTINGS, FAST = "tokenizer_config.json", "tokenizer.json"
_ADDED, _MODEL_SETTINGS = "added_tokens.json", "config.json"
PIECES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}

# A class without settings of its own: what tokenizer.json says is all there is.
GENERIC = ("PreTrainedTokenizer", "TokenizersBackend")
_KINDS = ("BertTokenizer", "ElectraTokenizer", "ConvBertTokenizer", *GENERIC)
# Settings of other tokenizers, or of BERT's before there were fast ones, with the values under
# which they change nothing.
_WITHOUT_EFFECT: dict[str, tuple[Any, ...]] = {
    "do_basic_tokenize": (True, None),
    "never_split": ([], None),
    "clean_text": (True, None),
    "wordpieces_prefix": ("##", None),
    "word_tokenizer_type": ("basic", None),
    "subword_tokenizer_type": ("wordpiece", None),
    "do_word_tokenize": (True, None),
    "do_subword_tokenize": (True, None),
    "mecab_kwargs": ({}, None),
    "sudachi_kwargs": ({}, None),
    "jumanpp_kwargs": ({}, None),
}


class WordPieceSettings(StrictModel):
    """What BERT's tokenizer does to a text before it looks up words.

    ``strip_accents`` None follows ``lowercase``. ``chinese_chars`` makes each of them a word.
    """

    lowercase: bool = True
    strip_accents: bool | None = None
    chinese_chars: bool = True

    @property
    def strips_accents(self) -> bool:
        """Whether accents are taken off."""
        return self.lowercase if self.strip_accents is None else self.strip_accents

    @property
    def mark(self) -> bytes:
        """What these settings add to a vocabulary's identity: nothing for BERT's defaults."""
        marks = {
            b"cased\n": not self.lowercase,
            b"keeps accents\n": self.lowercase and not self.strips_accents,
            b"strips accents\n": not self.lowercase and self.strips_accents,
            b"joins Chinese characters\n": not self.chinese_chars,
        }
        return b"".join(mark for mark, present in marks.items() if present)

    def to_hugging_face(self) -> dict[str, Any]:
        """Return them under the names of ``tokenizer_config.json``."""
        return {theirs: getattr(self, ours) for ours, (theirs, _) in _NAMES.items()}


# Our name, that of tokenizer_config.json and that of a normalizer in tokenizer.json.
_NAMES = {
    "lowercase": ("do_lower_case", "lowercase"),
    "strip_accents": ("strip_accents", "strip_accents"),
    "chinese_chars": ("tokenize_chinese_chars", "handle_chinese_chars"),
}


def read_settings(folder: Path) -> WordPieceSettings:
    """Return the settings of the vocabulary in ``folder``, BERT's defaults where nothing is stated.

    Raises ``UserError`` naming file and key for what cannot be carried out here, and where
    ``tokenizer.json`` and ``tokenizer_config.json`` contradict each other.
    """
    return WordPieceSettings(**stated_settings(folder))


def stated_settings(folder: Path) -> dict[str, bool | None]:
    """Return the settings that the files in ``folder`` state; errors as ``read_settings``."""
    refuse_other_kinds(folder)
    path = folder / HF_SETTINGS
    content = _optional_json(path)
    stated = {ours: content[theirs] for ours, (theirs, _) in _NAMES.items() if theirs in content}
    for ours, value in stated.items():
        if not isinstance(value, bool) and not (value is None and ours == "strip_accents"):
            raise UserError(f"{path}: {_NAMES[ours][0]}={value!r} is neither true nor false")
    normalizer = _optional_json(folder / FAST).get("normalizer") or {}
    if not isinstance(normalizer, dict) or normalizer.get("type") != "BertNormalizer":
        return stated
    fast = {ours: normalizer.get(theirs) for ours, (_, theirs) in _NAMES.items()}
    _refuse_contradiction(folder, stated, fast)
    return fast | stated


def _refuse_contradiction(folder: Path, stated: dict[str, Any], fast: dict[str, Any]) -> None:
    # The length of a word is the library's business; only these three can be set.
    ours, theirs = WordPieceSettings(**(fast | stated)), WordPieceSettings(**fast)
    for name in ("lowercase", "strips_accents", "chinese_chars"):
        here, there = getattr(ours, name), getattr(theirs, name)
        if here != there:
            key = _NAMES["strip_accents" if name == "strips_accents" else name]
            raise UserError(
                f"{folder / HF_SETTINGS}: {key[0]} is {_spelled(here)}, but {key[1]} in {FAST} is "
                f"{_spelled(there)}: correct the one that the model was not trained with"
            )


def _spelled(value: bool) -> str:
    return "true" if value else "false"


def refuse_other_kinds(folder: Path) -> None:
    """Raise ``UserError`` where the files ask for a tokenizer that is not of BERT's kind.

    Such are tokenizers of other classes (of Japanese by MeCab, Sudachi or Juman++, say), words that
    are never split, special tokens of other names, and words added to the vocabulary.
    """
    for path in (folder / HF_SETTINGS, folder / _MODEL_SETTINGS):
        content = _optional_json(path)
        kind = content.get("tokenizer_class")
        if kind is not None and str(kind).removesuffix("Fast") not in _KINDS:
            raise _refusal(path, f"tokenizer_class={kind!r} cuts text in a way of its own")
    path = folder / HF_SETTINGS
    content = _optional_json(path)
    for key, harmless in _WITHOUT_EFFECT.items():
        if key in content and content[key] not in harmless:
            raise _refusal(path, f"{key}={content[key]!r} is not BERT's way")
    if "AutoTokenizer" in (content.get("auto_map") or {}):
        raise _refusal(path, "auto_map names code of its own")
    for kind, piece in PIECES.items():
        found = _content(content.get(f"{kind}_token", piece))
        if found not in (piece, None):
            raise _refusal(path, f"{kind}_token={found!r} is not {piece}")
    _refuse_added(folder, content)


def _refuse_added(folder: Path, content: dict[str, Any]) -> None:
    """Refuse words that a text is searched for; special tokens are text like other in training."""
    added = _optional_json(folder / _ADDED)
    if others := sorted(set(added) - set(PIECES.values())):
        raise _refusal(folder / _ADDED, f"{others[0]!r} is added to the vocabulary")
    decoder = content.get("added_tokens_decoder") or {}
    for token in decoder.values() if isinstance(decoder, dict) else ():
        if isinstance(token, dict) and not token.get("special"):
            what = f"added_tokens_decoder adds {token.get('content')!r} to the vocabulary"
            raise _refusal(folder / HF_SETTINGS, what)


def _content(token: Any) -> Any:
    """Return how a special token is spelled: a string, or the record of one."""
    return token.get("content") if isinstance(token, dict) else token


def _refusal(path: Path, what: str) -> UserError:
    return UserError(
        f"{path}: {what}, which cannot be done here: use a tokenizer of BERT's kind, or import the "
        "weights alone with --no-tokenizer"
    )


def _optional_json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
