"""Train a sentencepiece model on a reproducible sample of a text."""

import hashlib
import heapq
import io
import json
import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal

import sentencepiece as spm
from sentencepiece import sentencepiece_model_pb2 as sentencepiece_model

from convbert.data_pipeline.atomic import atomic_directory, naming, require_vacant
from convbert.data_pipeline.tokenizer.encoders import MODEL
from convbert.data_pipeline.tokenizer.settings import PIECES
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import UserError

ModelType = Literal["unigram", "bpe"]
Normalization = Literal["nmt_nfkc", "nfkc", "identity"]

SETTINGS = "settings.json"
SCORE_STEP = 1 / 128
# Training a unigram model takes some twenty times the memory of its text.
SAMPLE_CHARACTERS = 256 << 20
LINE_BYTES = 16_384
# The zero-width non-joiner where it is spelling: between letters of Arabic script or of India's.
NON_JOINER = "\u200c"
_SPELLED_NON_JOINER = re.compile(f"[\u0600-\u109f]{NON_JOINER}[\u0600-\u109f]")


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
    normalization: Normalization = "nmt_nfkc",
    seed: int = 0,
    threads: int = 2,
) -> Tokenizer:
    """Train a sentencepiece model on a sample of lines and write it to ``folder``.

    ``lowercase`` folds case as part of the model, as the published models' vocabulary does.
    ``normalization`` names sentencepiece's rule; ``nmt_nfkc`` leaves zero-width non-joiners alone
    if the sample spells with them, else it makes them spaces, as sentencepiece does.
    Ids of a unigram model depend on the number of threads, so it is pinned and recorded, not
    taken from the machine. Characters outside the coverage become bytes, so nothing is unknown;
    with ``ascii`` those of ASCII that occur are inside, unless they fill most of the vocabulary.
    Raises ``UserError`` if the folder holds anything or the text cannot fill the vocabulary.
    """
    require_vacant(folder)
    rule = normalization_rule(normalization, lowercase)
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
        "normalization_rule_name": rule,
    }
    keeps_joiners = normalization == "nmt_nfkc" and any(map(_SPELLED_NON_JOINER.search, lines))
    options = _keeping_joiners(settings) if keeps_joiners else settings
    model = io.BytesIO()
    try:
        _train(
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
            **options,
        )
    except RuntimeError as error:
        raise _failure(error, lines, settings) from None
    with naming(folder), atomic_directory(folder) as temporary:
        (temporary / MODEL).write_bytes(_round_scores(model.getvalue()))
        record = {**settings, "sample_lines": len(lines), "seed": seed, "spm": spm.__version__}
        record |= {"keeps": [NON_JOINER]} if keeps_joiners else {}
        (temporary / SETTINGS).write_bytes(json.dumps(record, indent=1).encode() + b"\n")
    return Tokenizer.load(folder)


def _train(**options: Any) -> None:
    """Train in a thread: sentencepiece looks for no signal, the main thread waits and does.

    A process that Ctrl-C ends does not wait for the rest of the training.
    """
    done: Future[None] = Future()

    def run() -> None:
        try:
            done.set_result(spm.SentencePieceTrainer.Train(**options))
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    done.result()


def normalization_rule(normalization: Normalization, lowercase: bool) -> str:
    """Return sentencepiece's name of a rule; raises ``UserError`` where there is none."""
    if not lowercase:
        return normalization
    if normalization == "identity":
        raise UserError(
            "lowercase is part of a normalization, and 'identity' has none; choose nmt_nfkc or nfkc"
        )
    return f"{normalization}_cf"


def _keeping_joiners(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with a rule that lacks the entry for the non-joiner."""
    others = dict(settings)
    rule = spm.SentencePieceNormalizer(rule_name=others.pop("normalization_rule_name"))
    entries = [entry for entry in rule.Decompile() if entry[0] != NON_JOINER]
    spm.set_min_log_level(2)  # making a rule is told on standard error
    return {**others, "normalizer": spm.SentencePieceNormalizer(norm_map=entries)}


def _failure(error: RuntimeError, lines: Sequence[str], settings: dict[str, Any]) -> UserError:
    """Say why training failed, and what helps: a larger vocabulary or a smaller one."""
    size = settings["vocab_size"]
    # 256 bytes, the special tokens, the sign for a space, and the characters of the text.
    needed = 257 + len(PIECES) + _alphabet(lines, settings["character_coverage"])
    if size < needed:
        return UserError(
            f"tokenizer: training failed (vocab_size {size} cannot hold 256 bytes, the special "
            f"tokens and the characters of the text, some {needed}); use a larger vocab_size or a "
            "smaller character_coverage"
        )
    reason = str(error).rsplit("] ", 1)[-1].strip() or str(error)
    return UserError(
        f"tokenizer: training failed ({reason.rstrip('.')}); use more text or a smaller vocab_size "
        f"than {size}"
    )


def _alphabet(lines: Sequence[str], coverage: float) -> int:
    """Count the most frequent characters that make up a share of the text."""
    counts = Counter(c for line in lines for c in line if not c.isspace())
    left = coverage * counts.total()
    for number, (_, count) in enumerate(counts.most_common()):
        if left <= 0:
            return number
        left -= count
    return len(counts)


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
