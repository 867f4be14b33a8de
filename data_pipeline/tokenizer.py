"""Subword tokenizers: sentencepiece models trained here, or a BERT ``vocab.txt``.

A tokenizer is a directory with ``tokenizer.model`` (or ``vocab.txt``) and is identified by the
SHA-256 of that file. Ids 0 to 4 of a trained model are [PAD], [UNK], [CLS], [SEP] and [MASK].
"""

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import sentencepiece as spm

from convbert.data_pipeline.atomic import atomic_directory
from convbert.models.errors import UserError

ModelType = Literal["unigram", "bpe"]

MODEL, VOCABULARY, SETTINGS = "tokenizer.model", "vocab.txt", "settings.json"
PIECES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


class _Encoder(Protocol):
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def special(self) -> dict[str, int]: ...

    def size(self) -> int: ...


class _SentencePiece:
    def __init__(self, path: Path) -> None:
        self.processor = spm.SentencePieceProcessor()
        try:
            self.processor.Load(str(path))
        except (OSError, RuntimeError):
            raise UserError(f"{path}: not a sentencepiece model; train it again") from None

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        ids: list[list[int]] = self.processor.Encode(list(texts), num_threads=1)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        hidden = self.special().values()
        text: str = self.processor.Decode([i for i in ids if i not in hidden])
        return text

    def special(self) -> dict[str, int]:
        return {name: self.processor.PieceToId(piece) for name, piece in PIECES.items()}

    def size(self) -> int:
        return int(self.processor.GetPieceSize())


class _WordPiece:
    def __init__(self, path: Path, lowercase: bool) -> None:
        from tokenizers import BertWordPieceTokenizer

        self.tokenizer = BertWordPieceTokenizer(str(path), lowercase=lowercase)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        encoded = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [e.ids for e in encoded]

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(ids))
        return text

    def special(self) -> dict[str, int]:
        found = {name: self.tokenizer.token_to_id(piece) for name, piece in PIECES.items()}
        missing = [PIECES[name] for name, number in found.items() if number is None]
        if missing:
            raise UserError(f"vocab.txt: lacks {', '.join(missing)}; it is not a BERT vocabulary")
        return found

    def size(self) -> int:
        return int(self.tokenizer.get_vocab_size())


class Tokenizer:
    """Text to ids without special tokens, and the ids of the special ones."""

    def __init__(self, folder: Path, file: Path, encoder: _Encoder) -> None:
        self.folder = folder
        self.file = file
        self._encoder = encoder
        special = encoder.special()
        self.pad_id, self.unk_id = special["pad"], special["unk"]
        self.cls_id, self.sep_id, self.mask_id = special["cls"], special["sep"], special["mask"]
        self.vocab_size = encoder.size()
        self.digest = hashlib.sha256(file.read_bytes()).hexdigest()

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Open a tokenizer directory or its file; raises ``UserError`` if it is none."""
        path = Path(path)
        folder = path if path.is_dir() else path.parent
        model, vocabulary = folder / MODEL, folder / VOCABULARY
        if model.is_file():
            return cls(folder, model, _SentencePiece(model))
        if vocabulary.is_file():
            return cls(folder, vocabulary, _WordPiece(vocabulary, reads_lowercase(folder)))
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
        return self._encoder.decode(ids)


def reads_lowercase(folder: Path) -> bool:
    """Say whether a WordPiece vocabulary is for lower-cased text, BERT's default."""
    settings = folder / SETTINGS
    return bool(json.loads(settings.read_text())["lowercase"]) if settings.is_file() else True


def train_tokenizer(
    texts: Iterable[str],
    folder: Path,
    *,
    vocab_size: int,
    model_type: ModelType = "unigram",
    character_coverage: float = 0.9995,
    max_sentences: int = 2_000_000,
    seed: int = 0,
    threads: int = 2,
) -> Tokenizer:
    """Train a sentencepiece model on a sample of lines and write it to ``folder``.

    Ids of a unigram model depend on the number of threads, so it is pinned and recorded, not
    taken from the machine. Characters outside the coverage become bytes, so nothing is unknown.
    Raises ``UserError`` if the folder exists or the text cannot fill the vocabulary.
    """
    if folder.exists():
        raise UserError(f"{folder}: exists already; remove it or choose another directory")
    lines = _sample((line for text in texts for line in text.splitlines()), max_sentences, seed)
    if not lines:
        raise UserError("tokenizer: the input holds no text; check paths and field")
    settings: dict[str, Any] = {
        "vocab_size": vocab_size,
        "model_type": model_type,
        "character_coverage": character_coverage,
        "num_threads": threads,
    }
    model = io.BytesIO()
    try:
        spm.SentencePieceTrainer.Train(
            sentence_iterator=iter(lines),
            model_writer=model,
            byte_fallback=True,
            pad_id=0,
            unk_id=1,
            bos_id=-1,
            eos_id=-1,
            pad_piece=PIECES["pad"],
            unk_piece=PIECES["unk"],
            control_symbols=[PIECES["cls"], PIECES["sep"], PIECES["mask"]],
            max_sentence_length=16_384,
            minloglevel=2,
            **settings,
        )
    except RuntimeError as error:
        reason = str(error).rsplit("] ", 1)[-1].strip() or str(error)
        raise UserError(
            f"tokenizer: training failed ({reason}); use more text or a smaller vocab_size than "
            f"{vocab_size}"
        ) from None
    with atomic_directory(folder) as temporary:
        (temporary / MODEL).write_bytes(model.getvalue())
        record = {**settings, "sample_lines": len(lines), "seed": seed, "spm": spm.__version__}
        (temporary / SETTINGS).write_text(json.dumps(record, indent=1) + "\n")
    return Tokenizer.load(folder)


def _sample(lines: Iterable[str], limit: int, seed: int) -> list[str]:
    """Keep the ``limit`` lines with the smallest keyed digest: no order or count changes it."""
    import heapq

    salt = seed.to_bytes(8, "little")

    def keyed() -> Iterable[tuple[bytes, str]]:
        for line in lines:
            text = line.strip()
            if text:
                yield hashlib.blake2b(text.encode(), digest_size=8, salt=salt).digest(), text

    return [text for _, text in heapq.nsmallest(limit, keyed())]
