"""Subword tokenizers: sentencepiece models trained here, or a BERT ``vocab.txt``.

A tokenizer is a directory with ``tokenizer.model`` (or ``vocab.txt``) and is identified by the
SHA-256 of that file, with a mark in front for a cased vocabulary. Ids 0 to 4 of a trained model are
[PAD], [UNK], [CLS], [SEP] and [MASK].
"""

import hashlib
import heapq
import io
import json
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import sentencepiece as spm
import tokenizers
from sentencepiece import sentencepiece_model_pb2 as sentencepiece_model

from convbert.data_pipeline.atomic import atomic_directory
from convbert.models.errors import UserError
from convbert.models.interop.vocab import require_sound_vocab

ModelType = Literal["unigram", "bpe"]

MODEL, VOCABULARY = "tokenizer.model", "vocab.txt"
SETTINGS, HF_SETTINGS = "settings.json", "tokenizer_config.json"
SCORE_STEP = 1 / 128
# Training a unigram model takes some twenty times the memory of its text.
SAMPLE_CHARACTERS = 256 << 20
LINE_BYTES = 16_384
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
            self.processor.Load(str(path))
        except (OSError, RuntimeError):
            raise UserError(f"{path}: not a sentencepiece model; train it again") from None

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        ids: list[list[int]] = self.processor.Encode([_nfkc(t) for t in texts], num_threads=1)
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
        return bool(json.loads(settings.read_text()).get("do_lower_case", True))
    except ValueError as error:
        raise UserError(f"{settings}: not JSON ({error}); mend or remove it") from None


def _nfkc(text: str) -> str:
    """Compose characters first: sentencepiece's table knows most sequences, but not all."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


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


def train_tokenizer(
    texts: Iterable[str],
    folder: Path,
    *,
    vocab_size: int,
    model_type: ModelType = "unigram",
    character_coverage: float = 0.9995,
    ascii: bool = True,
    max_sentences: int = 2_000_000,
    lowercase: bool = False,
    seed: int = 0,
    threads: int = 2,
) -> Tokenizer:
    """Train a sentencepiece model on a sample of lines and write it to ``folder``.

    ``lowercase`` folds case as part of the model, as the published models' vocabulary does.
    Ids of a unigram model depend on the number of threads, so it is pinned and recorded, not
    taken from the machine. Characters outside the coverage become bytes, so nothing is unknown;
    with ``ascii`` those of ASCII that occur are inside, unless they fill most of the vocabulary.
    Raises ``UserError`` if the folder exists or the text cannot fill the vocabulary.
    """
    if folder.exists():
        raise UserError(f"{folder}: exists already; remove it or choose another directory")
    lines = sample_texts(
        (line for text in texts for line in _lines(text)), max_sentences, SAMPLE_CHARACTERS, seed
    )
    if not lines:
        raise UserError("tokenizer: the input holds no text; check paths and field")
    settings: dict[str, Any] = {
        "vocab_size": vocab_size,
        "model_type": model_type,
        "character_coverage": character_coverage,
        "required_chars": _required(lines, vocab_size, lowercase) if ascii else "",
        "num_threads": threads,
        "normalization_rule_name": "nmt_nfkc_cf" if lowercase else "nmt_nfkc",
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
            max_sentence_length=LINE_BYTES,
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
        (temporary / MODEL).write_bytes(_round_scores(model.getvalue()))
        record = {**settings, "sample_lines": len(lines), "seed": seed, "spm": spm.__version__}
        (temporary / SETTINGS).write_text(json.dumps(record, indent=1) + "\n")
    return Tokenizer.load(folder)


def _required(lines: Sequence[str], vocab_size: int, lowercase: bool) -> str:
    """Return the printable ASCII of the sample, or nothing if it takes half of the free ids.

    Coverage counts characters of running text, of which brackets, digits and capitals are few: in
    a small sample it leaves out ``(``, ``?`` and ``K``.
    """
    characters = (chr(code) for code in range(33, 127))
    found = [c for c in characters if any(c in line for line in lines)]
    if lowercase:
        found = sorted({c.lower() for c in found})
    free = vocab_size - 256 - len(PIECES)
    return "".join(found) if len(found) <= free // 2 else ""


def _round_scores(model: bytes) -> bytes:
    """Round log probabilities to a step of which 32-bit sums are exact up to some 16,000 tokens.

    Sentencepiece adds them in 32 bits, fast tokenizers in 64: with rounding errors the two break
    ties between segmentations differently, in about one of 2,000 sentences.
    """
    proto = sentencepiece_model.ModelProto()
    proto.ParseFromString(model)
    for piece in proto.pieces:
        piece.score = round(piece.score / SCORE_STEP) * SCORE_STEP
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def _lines(text: str) -> Iterator[str]:
    """Yield the lines of a document; training leaves out long ones, so they come in parts."""
    part = LINE_BYTES // 4  # no character has more bytes
    for line in text.splitlines():
        start = 0
        if len(line.encode()) > LINE_BYTES:
            while len(line) - start > part:
                space = line.rfind(" ", start + 1, start + part)
                stop = space if space > 0 else start + part
                yield line[start:stop]
                start = stop
        yield line[start:]


def sample_texts(lines: Iterable[str], limit: int, characters: int, seed: int) -> list[str]:
    """Keep the texts with the smallest keyed digests, up to both limits, whatever their order.

    Only texts that may still be kept are held: once one was given up, none behind it returns.
    """
    salt = seed.to_bytes(8, "little")
    held: list[tuple[int, str]] = []  # a heap with the largest digest on top, by its negative
    size = 0
    bound: int | None = None  # the smallest digest given up
    for line in lines:
        text = line.strip()
        digest = hashlib.blake2b(text.encode(), digest_size=8, salt=salt).digest()
        key = -int.from_bytes(digest, "big")
        if not text or (bound is not None and key <= bound):
            continue
        heapq.heappush(held, (key, text))
        size += len(text)
        while len(held) > limit or size > characters:
            bound, dropped = heapq.heappop(held)
            size -= len(dropped)
    return [text for key, text in sorted(held, reverse=True) if bound is None or key > bound]
