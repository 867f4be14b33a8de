"""Build training shards from documents, in parallel, with the same bytes on any machine."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convbert.data_pipeline.atomic import atomic_directory
from convbert.data_pipeline.manifest import Manifest, Packing, Shard
from convbert.data_pipeline.packing import PACKERS, RowFormat, split_segments, to_array
from convbert.data_pipeline.readers import ReaderOptions, iter_documents
from convbert.data_pipeline.shards import ShardWriter
from convbert.data_pipeline.tokenizer import Tokenizer
from convbert.models.errors import UserError

CHUNK_CHARACTERS = 1 << 20
Chunk = tuple[int, list[str]]
Packed = tuple[int, int, NDArray[np.uint32]]
Report = Callable[[int, int], None]

_tokenizer: Tokenizer
_rows: RowFormat
_packing: Packing
_seed: int


def _start_worker(path: Path, rows: RowFormat, packing: Packing, seed: int) -> None:
    """Load the tokenizer once per worker process."""
    global _tokenizer, _rows, _packing, _seed
    _tokenizer, _rows, _packing, _seed = Tokenizer.load(path), rows, packing, seed


def _pack_chunk(chunk: Chunk) -> Packed:
    """Tokenise and pack one chunk; return (documents, characters, rows)."""
    first, texts = chunk
    parts = [split_segments(text) for text in texts]
    encoded = iter(_tokenizer.encode_batch([s for segments in parts for s in segments]))
    documents = ((first + i, [next(encoded) for _ in segments]) for i, segments in enumerate(parts))
    packed = PACKERS[_packing](documents, _rows, _seed)
    return len(texts), sum(map(len, texts)), to_array(packed, _rows)


def _chunks(documents: Iterable[str]) -> Iterator[Chunk]:
    """Group documents by size alone, so that the result does not depend on the workers."""
    texts: list[str] = []
    first = size = 0
    for text in documents:
        texts.append(text)
        size += len(text)
        if size >= CHUNK_CHARACTERS:
            yield first, texts
            first, texts, size = first + len(texts), [], 0
    if texts:
        yield first, texts


def _ordered(pool: ProcessPoolExecutor, chunks: Iterator[Chunk], ahead: int) -> Iterator[Packed]:
    """Run chunks in parallel and yield results in order, a bounded number ahead."""
    running: deque[Future[Packed]] = deque()
    for chunk in chunks:
        running.append(pool.submit(_pack_chunk, chunk))
        if len(running) >= ahead:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()


def build_shards(
    inputs: Iterable[str | Path],
    tokenizer_path: Path,
    folder: Path,
    *,
    seq_len: int = 128,
    packing: Packing = "electra",
    shard_bytes: int = 256 << 20,
    seed: int = 0,
    workers: int = 1,
    options: ReaderOptions | None = None,
    report: Report = lambda documents, characters: None,
) -> Manifest:
    """Tokenise, pack and write a corpus; return its manifest.

    ``report`` hears of documents and characters as they are done. The directory appears when it
    is complete; equal inputs and settings give equal bytes whatever the number of workers.
    Raises ``UserError`` for unusable input, and if ``folder`` exists.
    """
    if folder.exists():
        raise UserError(f"{folder}: exists already; remove it or choose another directory")
    if seq_len < 8:
        raise UserError(f"seq_len={seq_len}: too short for a segment pair; use at least 8")
    tokenizer = Tokenizer.load(tokenizer_path)
    options = options or ReaderOptions()
    rows = RowFormat(seq_len, tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id)
    documents = tokens = 0
    with (
        atomic_directory(folder) as temporary,
        ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(tokenizer_path, rows, packing, seed),
        ) as pool,
    ):
        writer = ShardWriter(temporary, seq_len, tokenizer.vocab_size, shard_bytes)
        chunks = _chunks(iter_documents(inputs, options))
        for count, characters, packed in _ordered(pool, chunks, 2 * workers + 1):
            writer.write(packed)
            documents += count
            tokens += int((packed != rows.pad_id).sum())
            report(count, characters)
        manifest = _manifest(tokenizer, rows, packing, writer.close(), documents, tokens)
        build = {"seed": seed, "chunk_characters": CHUNK_CHARACTERS, **asdict(options)}
        manifest = manifest.model_copy(update={"build": build})
        manifest.save(temporary / "manifest.json")
    return manifest


def _manifest(
    tokenizer: Tokenizer,
    rows: RowFormat,
    packing: Packing,
    shards: list[Shard],
    documents: int,
    tokens: int,
) -> Manifest:
    return Manifest(
        tool=f"convbert-pretrain {version('convbert-pretrain')}",
        tokenizer_digest=tokenizer.digest,
        vocab_size=tokenizer.vocab_size,
        pad_id=rows.pad_id,
        cls_id=rows.cls_id,
        sep_id=rows.sep_id,
        seq_len=rows.seq_len,
        packing=packing,
        num_documents=documents,
        num_sequences=sum(s.sequences for s in shards),
        num_tokens=tokens,
        build={},
        shards=shards,
    )
