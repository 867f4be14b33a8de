"""Pieces: cleaned documents on disk, each some tens of megabytes of text.

A piece is a folder with ``documents.arrow`` (an Arrow IPC file with id, text, source, meta as
JSON and language, compressed) and the records of deduplication (``dedup/records.py``).
"""

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from convbert.data_pipeline.dedup.dedup_settings import DedupConfig
from convbert.data_pipeline.dedup.records import PieceRecords
from convbert.data_pipeline.dedup.words import HashedWords
from convbert.data_pipeline.documents import Document

DOCUMENTS = "documents.arrow"
_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.large_string()),
        ("source", pa.string()),
        ("meta", pa.string()),
        ("language", pa.string()),
    ]
)


@dataclass(frozen=True)
class TextPiece:
    """A folder of documents, and how much it holds; bytes of text, entries of band hashes."""

    folder: Path
    documents: int
    bytes: int
    entries: int


class PieceWriter:
    """Writes the documents of one source file into numbered pieces below ``folder``."""

    def __init__(self, folder: Path, config: DedupConfig, piece_bytes: int) -> None:
        self._folder = folder
        self._config = config
        self._piece_bytes = piece_bytes
        self.pieces: list[TextPiece] = []
        self._open: _OpenPiece | None = None

    def add(self, documents: Sequence[Document], hashed: HashedWords) -> None:
        """Append a batch; a piece closes behind the batch that fills it."""
        if not documents:
            return
        if self._open is None:
            folder = self._folder / f"piece-{len(self.pieces):06d}"
            self._open = _OpenPiece(folder, self._config)
        self._open.add(documents, hashed)
        if self._open.bytes >= self._piece_bytes:
            self.close()

    def close(self) -> None:
        """End the piece that is open."""
        if self._open is not None:
            self.pieces.append(self._open.close())
            self._open = None


class _OpenPiece:
    def __init__(self, folder: Path, config: DedupConfig) -> None:
        folder.mkdir()
        self._folder = folder
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        self._writer = pa.ipc.new_file(str(folder / DOCUMENTS), _SCHEMA, options=options)
        self._records = PieceRecords(config)
        self.bytes = self._documents = 0

    def add(self, documents: Sequence[Document], hashed: HashedWords) -> None:
        texts = [document.text for document in documents]
        columns = [
            pa.array([document.id for document in documents], pa.string()),
            pa.array(texts, pa.large_string()),
            pa.array([document.source for document in documents], pa.string()),
            pa.array([_json(document.meta) for document in documents], pa.string()),
            pa.array([document.language for document in documents], pa.string()),
        ]
        batch = pa.record_batch(columns, schema=_SCHEMA)
        self._writer.write_batch(batch)
        self._records.add(texts, hashed)
        self.bytes += sum(buffer.size for buffer in columns[1].buffers()[2:])
        self._documents += len(documents)

    def close(self) -> TextPiece:
        self._writer.close()
        entries = self._records.save(self._folder)
        return TextPiece(self._folder, self._documents, self.bytes, entries)


def _json(meta: Mapping[str, Any]) -> str:
    return json.dumps(dict(meta)) if meta else "{}"


def read_piece(folder: Path, rows: Container[int] | None = None) -> Iterator[tuple[int, Document]]:
    """Yield (row, document) of a piece, of all or of the given rows."""
    first = 0
    with pa.OSFile(str(folder / DOCUMENTS)) as file:
        reader = pa.ipc.open_file(file)
        for number in range(reader.num_record_batches):
            batch: Any = reader.get_batch(number).to_pydict()
            fields = zip(*(batch[name] for name in _SCHEMA.names), strict=True)
            for row, (name, text, source, meta, language) in enumerate(fields, first):
                if rows is None or row in rows:
                    yield row, Document(name, text, source, json.loads(meta), language)
            first += len(batch["id"])
