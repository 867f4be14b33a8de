"""Subword tokenizers: sentencepiece models trained here, or a BERT ``vocab.txt``.

A tokenizer is a directory with ``tokenizer.model`` (or ``vocab.txt``) and is identified by the
SHA-256 of that file, with a mark in front for a cased vocabulary. Ids 0 to 4 of a trained model are
[PAD], [UNK], [CLS], [SEP] and [MASK].
"""

import hashlib
import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import sentencepiece as spm
import tokenizers
from sentencepiece import sentencepiece_model_pb2 as sentencepiece_model

from convbert.models.errors import UserError
from convbert.models.interop.vocab import require_sound_vocab

MODEL, VOCABULARY = "tokenizer.model", "vocab.txt"
HF_SETTINGS = "tokenizer_config.json"
PIECES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


class _Encoder(Protocol):
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def piece_id(self, piece: str) -> int | None: ...

    def piece(self, number: int) -> str: ...

    def size(self) -> int: ...


class _SentencePiece:
    def __init__(self, path: Path) -> None:
        self.processor = spm.SentencePieceProcessor()
        try:
            self.processor.LoadFromSerializedProto(path.read_bytes())  # names may be no UTF-8
        except (OSError, RuntimeError):
            raise UserError(f"{path}: not a sentencepiece model; train it again") from None
        self._composes = composes(path)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        texts = _composed(texts) if self._composes else list(texts)
        ids: list[list[int]] = self.processor.Encode(texts, num_threads=1)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self.processor.Decode(list(ids))
        return text

    def piece_id(self, piece: str) -> int | None:
        number = int(self.processor.PieceToId(piece))
        return number if self.processor.IdToPiece(number) == piece else None

    def piece(self, number: int) -> str:
        piece: str = self.processor.IdToPiece(number)
        return piece

    def size(self) -> int:
        return int(self.processor.GetPieceSize())


class _WordPiece:
    def __init__(self, folder: Path) -> None:
        self.tokenizer = word_piece(folder)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        encoded = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [e.ids for e in encoded]

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(ids))
        return text

    def piece_id(self, piece: str) -> int | None:
        number: int | None = self.tokenizer.token_to_id(piece)
        return number

    def piece(self, number: int) -> str:
        return str(self.tokenizer.id_to_token(number))

    def size(self) -> int:
        return int(self.tokenizer.get_vocab_size())


def word_piece(folder: Path) -> tokenizers.Tokenizer:
    """Build BERT's tokenizer from ``vocab.txt`` (Devlin et al. 2019), without special tokens.

    Text is lower-cased and stripped of accents unless ``do_lower_case`` is false in the
    ``tokenizer_config.json`` beside it. Raises ``UserError`` for a vocabulary that a wrong text
    encoding damaged.
    """
    require_sound_vocab(folder / VOCABULARY)
    model = tokenizers.models.WordPiece.from_file(
        str(folder / VOCABULARY), unk_token=PIECES["unk"], max_input_chars_per_word=100
    )
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=reads_lowercase(folder))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = tokenizers.decoders.WordPiece()
    return tokenizer


def reads_lowercase(folder: Path) -> bool:
    """Read ``do_lower_case``, as Hugging Face writes it beside a vocabulary; true by default."""
    settings = folder / HF_SETTINGS
    if not settings.is_file():
        return True
    try:
        return bool(json.loads(settings.read_bytes()).get("do_lower_case", True))
    except ValueError as error:
        raise UserError(f"{settings}: not JSON ({error}); mend or remove it") from None


def composes(path: Path) -> bool:
    """Return whether a sentencepiece model normalizes text: not with the rule ``identity``."""
    proto = sentencepiece_model.ModelProto()
    proto.ParseFromString(path.read_bytes())
    return bool(proto.normalizer_spec.precompiled_charsmap)


def _composed(texts: Sequence[str]) -> list[str]:
    """Compose characters first: sentencepiece's table knows most sequences, but not all."""
    return [text if text.isascii() else unicodedata.normalize("NFKC", text) for text in texts]


class Tokenizer:
    """Text to ids without special tokens, and the ids of the special ones."""

    def __init__(self, folder: Path, file: Path, encoder: _Encoder, identity: bytes) -> None:
        self.folder = folder
        self.file = file
        self._encoder = encoder
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = self._special()
        self.vocab_size = encoder.size()
        self.digest = hashlib.sha256(identity).hexdigest()

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Open a tokenizer directory or its file; raises ``UserError`` if it is none."""
        path = Path(path)
        folder = path if path.is_dir() else path.parent
        model, vocabulary = folder / MODEL, folder / VOCABULARY
        if model.is_file():
            return cls(folder, model, _SentencePiece(model), model.read_bytes())
        if vocabulary.is_file():
            case = b"" if reads_lowercase(folder) else b"cased\n"
            return cls(folder, vocabulary, _WordPiece(folder), case + vocabulary.read_bytes())
        raise UserError(
            f"{path}: no tokenizer ({MODEL} or {VOCABULARY}) there; train one with "
            "`convbert tokenizer train`"
        )

    @property
    def is_sentencepiece(self) -> bool:
        """Whether this is a sentencepiece model, not a WordPiece vocabulary."""
        return self.file.name == MODEL

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode texts; no special token is added."""
        return self._encoder.encode_batch(texts)

    def decode(self, ids: Sequence[int]) -> str:
        """Return readable text, special tokens left out."""
        special = {self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id}
        return self._encoder.decode([i for i in ids if i not in special])

    def pieces(self) -> list[str]:
        """Return the vocabulary in the order of the ids, as the model spells it."""
        return [self._encoder.piece(number) for number in range(self.vocab_size)]

    def _special(self) -> list[int]:
        found = {piece: self._encoder.piece_id(piece) for piece in PIECES.values()}
        missing = [piece for piece, number in found.items() if number is None]
        if missing:
            raise UserError(
                f"{self.file}: lacks {', '.join(missing)}; use BERT's vocabulary or train "
                "one with `convbert tokenizer train`"
            )
        return [number for number in found.values() if number is not None]
