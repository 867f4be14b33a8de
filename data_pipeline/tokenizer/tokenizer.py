"""Subword tokenizers: sentencepiece models trained here, BERT's ``vocab.txt``, ``tokenizer.json``.

A tokenizer is a directory with ``tokenizer.model`` (or else ``vocab.txt``, or else
``tokenizer.json``) and is identified by the SHA-256 of that file, for a vocabulary with marks in
front for settings that are not those of BERT's uncased models. Ids 0 to 4 of a trained model are
[PAD], [UNK], [CLS], [SEP] and [MASK].
"""

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from convbert.data_pipeline.tokenizer.encoders import (
    MODEL,
    VOCABULARY,
    Encoder,
    Fast,
    SentencePiece,
    fast_file,
    word_piece,
)
from convbert.data_pipeline.tokenizer.settings import FAST, PIECES, read_settings
from convbert.models.errors import UserError


class Tokenizer:
    """Text to ids without special tokens, and the ids of the special ones."""

    def __init__(self, folder: Path, file: Path, encoder: Encoder, identity: bytes) -> None:
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
        model, vocabulary, fast = (folder / name for name in (MODEL, VOCABULARY, FAST))
        if model.is_file():
            return cls(folder, model, SentencePiece(model), model.read_bytes())
        if vocabulary.is_file():
            words = Fast(word_piece(folder))
            identity = read_settings(folder).mark + vocabulary.read_bytes()
            return cls(folder, vocabulary, words, identity)
        if fast.is_file():
            return cls(folder, fast, Fast(fast_file(fast)), fast.read_bytes())
        raise UserError(
            f"{path}: no tokenizer ({MODEL}, {VOCABULARY} or {FAST}) there; train one with "
            "`convbert tokenizer train`"
        )

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


@cache
def known_tokenizer(path: Path, digest: str) -> Tokenizer:
    """Load a tokenizer once per process.

    Raises ``UserError`` where another has taken its place since another process told its digest.
    """
    tokenizer = Tokenizer.load(path)
    if tokenizer.digest != digest:
        raise UserError(
            f"{tokenizer.file}: changed while it was in use ({tokenizer.digest[:12]} instead of "
            f"{digest[:12]}); leave it alone and start again"
        )
    return tokenizer
