"""The tokenizer of a corpus: given, or trained on what deduplication left."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convbert.data_pipeline.corpus_build.build_settings import TokenizerConfig
from convbert.data_pipeline.corpus_build.pieces import TextPiece, read_piece
from convbert.data_pipeline.dedup.clusters import dropped_of_piece
from convbert.data_pipeline.dedup.records import KEYS
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.data_pipeline.tokenizer.training import train_tokenizer


@dataclass(frozen=True)
class TrainTask:
    """Pieces, the dropped documents, and where the tokenizer goes."""

    pieces: tuple[TextPiece, ...]
    dropped: Path
    config: TokenizerConfig
    folder: Path


def run_training(task: TrainTask) -> Path:
    """Train the tokenizer unless it is there; the folder appears when it is complete."""
    if not task.folder.is_dir():
        train_tokenizer(
            sampled_texts(task.pieces, task.dropped, task.config.sample_megabytes << 20),
            task.folder,
            vocab_size=task.config.vocab_size,
            model_type=task.config.model_type,
            character_coverage=task.config.character_coverage,
            ascii=task.config.ascii,
            max_sentences=task.config.max_sentences,
            lowercase=task.config.lowercase,
            normalization=task.config.normalization,
            threads=task.config.threads,
        )
    return Tokenizer.load(task.folder).folder


def sampled_texts(pieces: Sequence[TextPiece], dropped: Path, size: int) -> Iterator[str]:
    """Yield surviving texts of about ``size`` bytes: those with the smallest digests."""
    total = sum(piece.bytes for piece in pieces)
    bound = np.uint64(min((1 << 64) - 1, (1 << 64) * size // max(total, 1)))
    for number, piece in enumerate(pieces):
        chosen = np.load(piece.folder / KEYS)["text"] <= bound
        chosen[dropped_of_piece(dropped, number)["document"]] = False
        rows = frozenset(np.flatnonzero(chosen).tolist())
        yield from (document.text for _, document in read_piece(piece.folder, rows))
