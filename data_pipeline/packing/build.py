"""Build training shards from documents, in parallel, with the same bytes on any machine.

Tokenizing and packing are two steps: ``tokenize_corpus`` writes token ids once, ``pack_tokens``
packs them to rows of any length, and ``build_shards`` does both without the files in between.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convbert.data_pipeline.atomic import atomic_directory, naming, require_vacant
from convbert.data_pipeline.documents import StageReport
from convbert.data_pipeline.packing.rows import (
    LONGEST_ROW,
    PACKERS,
    SHORTEST_ROW,
    RowFormat,
    to_array,
)
from convbert.data_pipeline.packing.tokens import (
    TokenChunk,
    TokenManifest,
    TokenSource,
    TokenWriter,
    encode_documents,
    read_chunks,
)
from convbert.data_pipeline.readers import ReaderOptions, iter_documents
from convbert.data_pipeline.shards.manifest import Manifest, Packing
from convbert.data_pipeline.shards.writer import ShardWriter
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer, known_tokenizer
from convbert.data_pipeline.workers import ordered_map, uncollected
from convbert.models.errors import UserError

CHUNK_CHARACTERS = 1 << 20
Chunk = tuple[int, list[str]]
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class RowSettings:
    """What decides rows and shards: tokens of a row, packing, size of a shard, random lengths."""

    seq_len: int = 128
    packing: Packing = "electra"
    shard_bytes: int = 256 << 20
    seed: int = 0


@dataclass(frozen=True)
class _Encoder:
    """Turns a chunk of text into token ids; small enough to be sent with every chunk."""

    tokenizer: Path
    digest: str

    def documents(self, texts: list[str]) -> list[list[list[int]]]:
        """Return for each document the ids of each of its segments."""
        return encode_documents(texts, known_tokenizer(self.tokenizer, self.digest))

    def __call__(self, chunk: Chunk) -> tuple[int, TokenChunk]:
        """Return the characters and the tokens of a chunk."""
        first, texts = chunk
        with uncollected():
            encoded = TokenChunk.encode(first, texts, known_tokenizer(self.tokenizer, self.digest))
        return sum(map(len, texts)), encoded


@dataclass(frozen=True)
class _Packed:
    """Rows [n, L] of a chunk, and what went into them; characters or, without text, tokens."""

    documents: int
    size: int
    rows: NDArray[np.uint32]


@dataclass(frozen=True)
class _Packer:
    """Turns token ids into rows."""

    rows: RowFormat
    packing: Packing
    seed: int

    def __call__(self, chunk: TokenChunk) -> _Packed:
        """Pack the documents of one chunk."""
        with uncollected():
            packed = PACKERS[self.packing](chunk.split(), self.rows, self.seed)
            return _Packed(len(chunk.documents), len(chunk.tokens), to_array(packed, self.rows))


@dataclass(frozen=True)
class _Builder:
    """Turns a chunk of text into rows, without the arrays that files hold in between."""

    encode: _Encoder
    pack: _Packer

    def __call__(self, chunk: Chunk) -> _Packed:
        """Tokenize and pack the documents of one chunk."""
        first, texts = chunk
        with uncollected():
            documents = self.encode.documents(texts)
            packed = PACKERS[self.pack.packing](
                enumerate(documents, first), self.pack.rows, self.pack.seed
            )
            return _Packed(len(texts), sum(map(len, texts)), to_array(packed, self.pack.rows))


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


def _source(tokenizer: Tokenizer, options: ReaderOptions) -> TokenSource:
    return TokenSource(
        tool=f"convbert-pretrain {version('convbert-pretrain')}",
        tokenizer_digest=tokenizer.digest,
        vocab_size=tokenizer.vocab_size,
        pad_id=tokenizer.pad_id,
        cls_id=tokenizer.cls_id,
        sep_id=tokenizer.sep_id,
        build={"chunk_characters": CHUNK_CHARACTERS, **options.recorded()},
    )


def _counting(source: TokenSource, read: StageReport) -> TokenSource:
    """Return the source with the records that were passed over, if there are any, by reason."""
    if not read.dropped:
        return source
    counts = dict(sorted(read.dropped.items()))
    return source.model_copy(update={"build": {**source.build, "bad_records": counts}})


def _packer(source: TokenSource, rows: RowSettings) -> _Packer:
    if not SHORTEST_ROW <= rows.seq_len <= LONGEST_ROW:
        raise UserError(
            f"seq_len={rows.seq_len}: rows hold a segment pair and fit memory by the block; use "
            f"{SHORTEST_ROW} to {LONGEST_ROW}"
        )
    form = RowFormat(rows.seq_len, source.pad_id, source.cls_id, source.sep_id)
    return _Packer(form, rows.packing, rows.seed)


def _require_tokens(count: int) -> None:
    if not count:
        raise UserError("the input holds no tokens, only invisible characters; check it")


def tokenize_corpus(
    inputs: Iterable[str | Path],
    tokenizer_path: Path,
    folder: Path,
    *,
    part_bytes: int = 256 << 20,
    workers: int = 1,
    options: ReaderOptions | None = None,
    report: Report = lambda documents, characters: None,
) -> TokenManifest:
    """Tokenize a corpus to ``folder``, which appears when it is complete; return its manifest.

    ``report``, the bytes and the errors are as in ``build_shards``.
    """
    require_vacant(folder)
    tokenizer = Tokenizer.load(tokenizer_path)
    options = options or ReaderOptions()
    encode = _Encoder(tokenizer_path, tokenizer.digest)
    with naming(folder), atomic_directory(folder) as temporary:
        read = StageReport(stage="read")
        chunks = _chunks(iter_documents(inputs, options, read))
        with (
            TokenWriter(temporary, part_bytes) as writer,
            ordered_map(encode, chunks, workers) as results,
        ):
            for characters, encoded in results:
                writer.write(encoded)
                report(len(encoded.documents), characters)
        _require_tokens(writer.tokens)
        manifest = TokenManifest(
            **_counting(_source(tokenizer, options), read).model_dump(),
            num_documents=writer.documents,
            num_tokens=writer.tokens,
            parts=writer.parts,
        )
        manifest.save(temporary)
    return manifest


def pack_tokens(
    tokens: Path,
    folder: Path,
    *,
    rows: RowSettings | None = None,
    workers: int = 1,
    report: Report = lambda documents, tokens: None,
) -> Manifest:
    """Pack tokenized documents to shards: the bytes of ``build_shards`` with the same settings.

    ``report`` is called with documents and tokens. Raises ``UserError`` also for missing or damaged
    files of ``tokens``.
    """
    source = TokenManifest.load(tokens)
    rows = rows or RowSettings()
    packer = _packer(source, rows)
    read = StageReport(stage="read")
    with ordered_map(packer, read_chunks(tokens, source), workers) as packed:
        return _write(packed, source, packer, folder, rows.shard_bytes, report, read)


def build_shards(
    inputs: Iterable[str | Path],
    tokenizer_path: Path,
    folder: Path,
    *,
    rows: RowSettings | None = None,
    workers: int = 1,
    options: ReaderOptions | None = None,
    report: Report = lambda documents, characters: None,
) -> Manifest:
    """Tokenize, pack and write a corpus; return its manifest.

    ``report`` is called with the documents and characters done. The directory appears when it
    is complete; equal inputs and settings give equal bytes whatever the number of workers.
    Raises ``UserError`` for unusable input, if ``folder`` holds anything, and if it cannot be
    written; nothing is left behind then.
    """
    require_vacant(folder)
    tokenizer = Tokenizer.load(tokenizer_path)
    options = options or ReaderOptions()
    source = _source(tokenizer, options)
    rows = rows or RowSettings()
    packer = _packer(source, rows)
    builder = _Builder(_Encoder(tokenizer_path, tokenizer.digest), packer)
    read = StageReport(stage="read")
    chunks = _chunks(iter_documents(inputs, options, read))
    with ordered_map(builder, chunks, workers) as packed:
        return _write(packed, source, packer, folder, rows.shard_bytes, report, read)


def _write(
    chunks: Iterable[_Packed],
    source: TokenSource,
    packer: _Packer,
    folder: Path,
    shard_bytes: int,
    report: Report,
    read: StageReport,
) -> Manifest:
    """Write rows and their manifest to ``folder``, whole or not at all.

    ``read`` is what has counted bad records when ``chunks`` end.
    """
    require_vacant(folder)
    documents = tokens = 0
    with naming(folder), atomic_directory(folder) as temporary:
        with ShardWriter(temporary, packer.rows.seq_len, source.vocab_size, shard_bytes) as writer:
            for packed in chunks:
                writer.write(packed.rows)
                documents += packed.documents
                tokens += int(np.count_nonzero(packed.rows != source.pad_id))
                report(packed.documents, packed.size)
        _require_tokens(tokens)
        manifest = Manifest(
            **source.model_dump(include=TokenSource.model_fields.keys() - {"build"}),
            seq_len=packer.rows.seq_len,
            packing=packer.packing,
            num_documents=documents,
            num_sequences=sum(shard.sequences for shard in writer.shards),
            num_tokens=tokens,
            build={"seed": packer.seed, **_counting(source, read).build},
            shards=writer.shards,
        )
        manifest.save(temporary / "manifest.json")
    return manifest
