"""What turns text into ids: a sentencepiece model, a WordPiece vocabulary, a tokenizer.json."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import sentencepiece as spm
import tokenizers
from sentencepiece import sentencepiece_model_pb2 as sentencepiece_model

from convbert.data_pipeline.tokenizer.settings import (
    PIECES,
    read_settings,
)
from convbert.models.errors import DamagedError, UserError
from convbert.models.interop.vocab import read_vocab, require_sound_vocab

MODEL, VOCABULARY = "tokenizer.model", "vocab.txt"


class Encoder(Protocol):
    """Texts to ids without special tokens, and the vocabulary behind it."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return readable text."""
        ...

    def piece_id(self, piece: str) -> int | None:
        """Return the id of a piece, or None."""
        ...

    def piece(self, number: int) -> str:
        """Return the piece of an id."""
        ...

    def size(self) -> int:
        """Return how many ids there are."""
        ...


class SentencePiece:
    """A sentencepiece model."""

    def __init__(self, path: Path) -> None:
        self.processor = spm.SentencePieceProcessor()
        try:
            self.processor.LoadFromSerializedProto(path.read_bytes())  # names may be no UTF-8
        except (OSError, RuntimeError):
            raise UserError(f"{path}: not a sentencepiece model; train it again") from None
        self._composes = composes(path)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text."""
        texts = _composed(texts) if self._composes else list(texts)
        ids: list[list[int]] = self.processor.Encode(texts, num_threads=1)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return readable text."""
        text: str = self.processor.Decode(list(ids))
        return text

    def piece_id(self, piece: str) -> int | None:
        """Return the id of a piece, or None."""
        number = int(self.processor.PieceToId(piece))
        return number if self.processor.IdToPiece(number) == piece else None

    def piece(self, number: int) -> str:
        """Return the piece of an id."""
        piece: str = self.processor.IdToPiece(number)
        return piece

    def size(self) -> int:
        """Return how many ids there are."""
        return int(self.processor.GetPieceSize())


class Fast:
    """A tokenizer of the ``tokenizers`` library; what special tokens spell stays text."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        tokenizer.encode_special_tokens = True
        self.tokenizer = tokenizer

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text."""
        encoded = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [e.ids for e in encoded]

    def decode(self, ids: Sequence[int]) -> str:
        """Return readable text."""
        text: str = self.tokenizer.decode(list(ids))
        return text

    def piece_id(self, piece: str) -> int | None:
        """Return the id of a piece, or None."""
        number: int | None = self.tokenizer.token_to_id(piece)
        return number

    def piece(self, number: int) -> str:
        """Return the piece of an id."""
        piece: str | None = self.tokenizer.id_to_token(number)
        return piece or ""  # of a number that is left out, nothing

    def size(self) -> int:
        """Return how many ids there are."""
        return max(self.tokenizer.get_vocab().values()) + 1


def word_piece(folder: Path) -> tokenizers.Tokenizer:
    """Build BERT's tokenizer from ``vocab.txt`` (Devlin et al. 2019), without special tokens.

    Text is treated as the settings beside the vocabulary say (``read_settings``). Raises
    ``UserError`` for a vocabulary that a wrong text encoding damaged, and for such settings.
    """
    require_sound_vocab(folder / VOCABULARY)
    settings = read_settings(folder)
    words = {word: number for number, word in enumerate(read_vocab(folder / VOCABULARY))}
    model = tokenizers.models.WordPiece(
        words, unk_token=PIECES["unk"], max_input_chars_per_word=100
    )
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(
        lowercase=settings.lowercase,
        strip_accents=settings.strip_accents,
        handle_chinese_chars=settings.chinese_chars,
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = tokenizers.decoders.WordPiece()
    return tokenizer


def fast_file(path: Path) -> tokenizers.Tokenizer:
    """Return what ``tokenizer.json`` holds, but for its padding and cutting of texts.

    Raises ``UserError`` where it is none, or where the settings beside it are not of its kind.
    """
    read_settings(path.parent)
    try:
        found = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library knows no other class
        reason = " ".join(str(error).split())
        raise DamagedError(f"{path}: not a fast tokenizer ({reason}); copy it again") from None
    found.no_padding()
    found.no_truncation()
    return found


def composes(path: Path) -> bool:
    """Return whether a sentencepiece model normalizes text: not with the rule ``identity``."""
    proto = sentencepiece_model.ModelProto()
    proto.ParseFromString(path.read_bytes())
    return bool(proto.normalizer_spec.precompiled_charsmap)


def _composed(texts: Sequence[str]) -> list[str]:
    """Compose characters first: sentencepiece's table knows most sequences, but not all."""
    return [text if text.isascii() else unicodedata.normalize("NFKC", text) for text in texts]
