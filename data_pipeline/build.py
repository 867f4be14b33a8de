"""Build training shards from documents, in parallel, with the same bytes on any machine."""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from multiprocessing import get_context, parent_process
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convbert.data_pipeline.atomic import atomic_directory, require_vacant
from convbert.data_pipeline.manifest import Manifest, Packing
from convbert.data_pipeline.packing import PACKERS, RowFormat, split_segments, to_array
from convbert.data_pipeline.readers import ReaderOptions, iter_documents
from convbert.data_pipeline.shards import ShardWriter
from convbert.data_pipeline.tokenizer import Tokenizer
from convbert.models.errors import UserError

CHUNK_CHARACTERS = 1 << 20
Chunk = tuple[int, list[str]]
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class _Packed:
    """Rows [n, L] of a chunk, and what went into them."""

    documents: int
    characters: int
    rows: NDArray[np.uint32]


@cache
def _tokenizer(path: Path, digest: str) -> Tokenizer:
    """Load a tokenizer once per process; the digest tells one apart that replaced another."""
    return Tokenizer.load(path)


@dataclass(frozen=True)
class _Packer:
    """Turns a chunk into rows; small enough to be sent with every chunk."""

    tokenizer: Path
    digest: str
    rows: RowFormat
    packing: Packing
    seed: int

    def __call__(self, chunk: Chunk) -> _Packed:
        """Tokenise and pack the documents of one chunk."""
        first, texts = chunk
        parts = [split_segments(text) for text in texts]
        tokenizer = _tokenizer(self.tokenizer, self.digest)
        encoded = iter(tokenizer.encode_batch([s for segments in parts for s in segments]))
        documents = (
            (first + i, [next(encoded) for _ in segments]) for i, segments in enumerate(parts)
        )
        packed = PACKERS[self.packing](documents, self.rows, self.seed)
        return _Packed(len(texts), sum(map(len, texts)), to_array(packed, self.rows))


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


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end when the parent is gone, however it ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _pack(packer: _Packer, chunks: Iterator[Chunk], workers: int) -> Iterator[_Packed]:
    """Yield the chunks' rows in order, with a bounded number of chunks in memory."""
    if workers == 1:
        yield from map(packer, chunks)
        return
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker)
    running: deque[Future[_Packed]] = deque()
    try:
        for chunk in chunks:
            running.append(pool.submit(packer, chunk))
            if len(running) > 2 * workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    except BrokenProcessPool:
        raise UserError(
            f"workers={workers}: one was killed, most likely for lack of memory; use fewer"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Turn a full or forbidden disk into an error that names the place."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror}), nothing is kept; make room or choose "
            "another directory"
        ) from None


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
    Raises ``UserError`` for unusable input, if ``folder`` holds anything, and if it cannot be
    written; nothing is left behind then.
    """
    require_vacant(folder)
    if seq_len < 8:
        raise UserError(f"seq_len={seq_len}: too short for a segment pair; use at least 8")
    tokenizer = Tokenizer.load(tokenizer_path)
    options = options or ReaderOptions()
    rows = RowFormat(seq_len, tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id)
    packer = _Packer(tokenizer_path, tokenizer.digest, rows, packing, seed)
    documents = tokens = 0
    with _naming(folder), atomic_directory(folder) as temporary:
        with ShardWriter(temporary, seq_len, tokenizer.vocab_size, shard_bytes) as writer:
            for packed in _pack(packer, _chunks(iter_documents(inputs, options)), workers):
                writer.write(packed.rows)
                documents += packed.documents
                tokens += int(np.count_nonzero(packed.rows != rows.pad_id))
                report(packed.documents, packed.characters)
        if not tokens:
            raise UserError("the input holds no tokens, only invisible characters; check it")
        manifest = Manifest(
            tool=f"convbert-pretrain {version('convbert-pretrain')}",
            tokenizer_digest=tokenizer.digest,
            vocab_size=tokenizer.vocab_size,
            **asdict(rows),
            packing=packing,
            num_documents=documents,
            num_sequences=sum(shard.sequences for shard in writer.shards),
            num_tokens=tokens,
            build={"seed": seed, "chunk_characters": CHUNK_CHARACTERS, **asdict(options)},
            shards=writer.shards,
        )
        manifest.save(temporary / "manifest.json")
    return manifest
