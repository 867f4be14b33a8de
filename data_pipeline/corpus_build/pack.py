"""Third task, one per piece: leave out duplicates, tokenize once, pack to rows of every length."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from convbert.data_pipeline.corpus_build.build_settings import ShardsConfig
from convbert.data_pipeline.corpus_build.overview import Contents
from convbert.data_pipeline.corpus_build.pieces import TextPiece, read_piece
from convbert.data_pipeline.corpus_build.tasks import once
from convbert.data_pipeline.dedup.clusters import dropped_of_piece
from convbert.data_pipeline.documents import Document, StageReport
from convbert.data_pipeline.packing.rows import PACKERS, Documents, RowFormat, to_array
from convbert.data_pipeline.packing.tokens import encode_documents
from convbert.data_pipeline.shards.writer import token_dtype
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer, known_tokenizer
from convbert.data_pipeline.workers import uncollected

CHUNK_CHARACTERS = 1 << 20
_COUNTED_AT_ONCE = 64


class PackReport(BaseModel):
    """What became of a piece; ``rows`` by length, histograms by the lower bound of a bin."""

    model_config = ConfigDict(extra="forbid")

    documents: int = 0
    tokens: int = 0
    rows: dict[int, int] = {}
    tokens_in_rows: dict[int, int] = {}
    document_tokens: dict[int, int] = {}
    stages: list[StageReport] = []
    contents: Contents = Contents()


@dataclass(frozen=True)
class PackTask:
    """A piece, its number, the dropped documents of all, and the number of its first survivor."""

    piece: TextPiece
    number: int
    dropped: Path
    first: int
    tokenizer: Path
    digest: str
    config: ShardsConfig
    samples: int
    folder: Path


@dataclass(frozen=True)
class Packed:
    """The result of a task; ``size`` are bytes of text."""

    folder: Path
    report: PackReport
    size: int


def survivors(
    piece: TextPiece, number: int, dropped: Path, report: StageReport
) -> Iterator[Document]:
    """Yield the documents of a piece that stay; a sample's detail is the survivor's number."""
    gone = {
        int(row): (int(survivor), bool(exact))
        for row, survivor, exact in dropped_of_piece(dropped, number)
    }
    rows = read_piece(piece.folder)
    while batch := list(islice(rows, _COUNTED_AT_ONCE)):
        report.read([document for _, document in batch])
        kept = []
        for row, document in batch:
            if row in gone:
                survivor, exact = gone[row]
                reason = "exact duplicate" if exact else "near duplicate"
                report.drop(document, reason, str(survivor))
            else:
                kept.append(document)
        report.keep(kept)
        yield from kept


def run_pack(task: PackTask) -> Packed:
    """Do the task unless it is done, and return what it made."""
    with uncollected():
        once(task.folder, lambda folder: _pack(task, folder))
    report = PackReport.model_validate_json((task.folder / "report.json").read_bytes())
    return Packed(task.folder, report, task.piece.bytes)


def _pack(task: PackTask, folder: Path) -> None:
    tokenizer = known_tokenizer(task.tokenizer, task.digest)
    dedup = StageReport(stage="deduplicate", sample_limit=task.samples)
    pack = StageReport(stage="tokenise and pack", sample_limit=task.samples)
    report = PackReport(stages=[dedup, pack], contents=Contents())
    lengths: Counter[int] = Counter()
    rows: dict[int, list[NDArray[np.unsignedinteger]]] = {n: [] for n in task.config.seq_len}
    start = time.process_time()
    documents = survivors(task.piece, task.number, task.dropped, dedup)
    for chunk in _chunks(documents, pack):
        dedup.seconds += time.process_time() - start
        start = time.process_time()
        encoded = encode_documents([document.text for document in chunk], tokenizer)
        for length, packed in rows.items():
            numbered = enumerate(encoded, task.first + report.documents)
            packed.append(_rows(numbered, length, tokenizer, task.config))
        counts = [sum(map(len, document)) for document in encoded]
        lengths.update(1 << max(0, count.bit_length() - 1) for count in counts)
        report.contents.count(chunk, counts, task.samples)
        report.documents += len(chunk)
        report.tokens += sum(counts)
        pack.seconds += time.process_time() - start
        start = time.process_time()
    dedup.seconds += time.process_time() - start
    report.document_tokens = dict(sorted(lengths.items()))
    for length, parts in rows.items():
        empty = np.empty((0, length), token_dtype(tokenizer.vocab_size))
        matrix = np.concatenate([empty, *parts])
        np.save(folder / f"rows-{length}.npy", matrix)
        report.rows[length] = len(matrix)
        report.tokens_in_rows[length] = int(np.count_nonzero(matrix != tokenizer.pad_id))
    (folder / "report.json").write_bytes(report.model_dump_json().encode())


def _chunks(documents: Iterable[Document], report: StageReport) -> Iterator[list[Document]]:
    """Group documents by size, and count them."""
    chunk: list[Document] = []
    size = 0
    for document in documents:
        chunk.append(document)
        size += len(document.text)
        if size >= CHUNK_CHARACTERS:
            yield _counted(chunk, report)
            chunk, size = [], 0
    if chunk:
        yield _counted(chunk, report)


def _counted(documents: list[Document], report: StageReport) -> list[Document]:
    report.read(documents)
    report.keep(documents)
    return documents


def _rows(
    documents: Documents, length: int, tokenizer: Tokenizer, config: ShardsConfig
) -> NDArray[np.unsignedinteger]:
    """Pack documents to rows [n, length] of the type in which they are stored."""
    form = RowFormat(length, tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id)
    packed = PACKERS[config.packing](documents, form, config.seed)
    return to_array(packed, form).astype(token_dtype(tokenizer.vocab_size))
