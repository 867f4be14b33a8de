"""Tokenized documents on disk, from which shards of any length are packed without the text.

A directory with ``tokens.json`` and numbered tars, plain WebDataset as the shards are. Every chunk
of documents is a sample of three arrays: ``tokens.npy`` (the ids of all documents, uint16 or
uint32), ``segments.npy`` (tokens per segment) and ``documents.npy`` (segments per document), both
uint32. Chunks, and the numbers of the documents in them, are those of a direct build, so both ways
give the same shards to the byte.
"""

import hashlib
import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, islice, pairwise
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from convbert.data_pipeline.atomic import atomic_write
from convbert.data_pipeline.segmentation import split_segments
from convbert.data_pipeline.shards.writer import TarFiles, token_dtype
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import UserError
from convbert.models.schema import StrictModel, parse

Counts = NDArray[np.uint32]
_FIELDS = ("tokens", "segments", "documents")


def encode_documents(texts: Sequence[str], tokenizer: Tokenizer) -> list[list[list[int]]]:
    """Return for each document the ids of each of its segments."""
    parts = [split_segments(text) for text in texts]
    encoded = iter(tokenizer.encode_batch([s for segments in parts for s in segments]))
    return [list(islice(encoded, len(segments))) for segments in parts]


@dataclass(frozen=True)
class TokenChunk:
    """Tokenized documents: the one numbered ``first`` and those that follow.

    ``tokens`` [T] are the ids of all of them, ``segments`` [S] counts the tokens of each segment,
    ``documents`` [D] the segments of each document.
    """

    first: int
    tokens: NDArray[np.unsignedinteger]
    segments: Counts
    documents: Counts

    @classmethod
    def encode(cls, first: int, texts: Sequence[str], tokenizer: Tokenizer) -> "TokenChunk":
        """Split documents into segments and tokenize them."""
        documents = encode_documents(texts, tokenizer)
        segments = [segment for document in documents for segment in document]
        lengths = np.fromiter(map(len, segments), np.uint32, len(segments))
        flat = chain.from_iterable(segments)
        tokens = np.fromiter(flat, token_dtype(tokenizer.vocab_size), int(lengths.sum()))
        counts = np.fromiter(map(len, documents), np.uint32, len(documents))
        return cls(first, tokens, lengths, counts)

    def split(self) -> Iterator[tuple[int, list[list[int]]]]:
        """Yield (number, segments) of every document."""
        tokens = self.tokens.tolist()
        cuts = [0, *accumulate(self.segments.tolist())]
        segments = [tokens[start:end] for start, end in pairwise(cuts)]
        bounds = [0, *accumulate(self.documents.tolist())]
        for number, (start, end) in enumerate(pairwise(bounds), self.first):
            yield number, segments[start:end]


class TokenPart(StrictModel):
    """One tar of chunks."""

    name: str
    bytes: int
    documents: int
    sha256: str


class TokenSource(StrictModel):
    """What decided the tokens of a corpus."""

    tool: str
    tokenizer_digest: str
    vocab_size: int
    pad_id: int
    cls_id: int
    sep_id: int
    build: dict[str, Any]


class TokenManifest(TokenSource):
    """What a directory of tokenized documents holds and how it was made."""

    format: Literal[1] = 1
    num_documents: int
    num_tokens: int
    parts: list[TokenPart]

    @classmethod
    def load(cls, folder: Path) -> "TokenManifest":
        """Read ``tokens.json`` of a directory; raises ``UserError``."""
        path = folder / "tokens.json"
        try:
            content = path.read_bytes()
        except OSError:
            raise UserError(
                f"{path}: no tokenized corpus; make one with `convbert shards tokenize`"
            ) from None
        return parse(cls, content, path, what="of a tokenized corpus", remedy="tokenize again")

    def save(self, folder: Path) -> None:
        """Write ``tokens.json`` atomically."""
        with atomic_write(folder / "tokens.json") as file:
            file.write(self.model_dump_json(indent=1).encode() + b"\n")


class TokenWriter:
    """Writes chunks to ``folder`` as numbered tars that close at ``part_bytes``."""

    def __init__(self, folder: Path, part_bytes: int) -> None:
        self._files = TarFiles(folder, "tokens", part_bytes)
        self._documents = self._chunks = 0
        self.parts: list[TokenPart] = []
        self.documents = self.tokens = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._close_part()
        else:
            self._files.abandon()

    def write(self, chunk: TokenChunk) -> None:
        """Append a chunk; chunks come in the order of their documents."""
        for field in _FIELDS:
            self._files.add(f"{self._chunks:09d}.{field}.npy", getattr(chunk, field))
        self._chunks += 1
        self._documents += len(chunk.documents)
        self.documents += len(chunk.documents)
        self.tokens += len(chunk.tokens)
        if self._files.full:
            self._close_part()

    def _close_part(self) -> None:
        written = self._files.close()
        if written is not None:
            path, digest = written
            part = TokenPart(
                name=path.name,
                bytes=path.stat().st_size,
                documents=self._documents,
                sha256=digest,
            )
            self.parts.append(part)
            self._documents = 0


def read_chunks(folder: Path, manifest: TokenManifest) -> Iterator[TokenChunk]:
    """Yield all chunks in order; every file's digest is checked before it is used.

    Raises ``UserError`` that names a missing or damaged file, one that is missing or cut at once.
    """
    for part in manifest.parts:
        _require_whole(folder / part.name, part)
    first = 0
    for part in manifest.parts:
        with _open_checked(folder / part.name, part) as file, tarfile.open(fileobj=file) as tar:
            arrays: list[NDArray[Any]] = []
            for entry in tar:
                content = tar.extractfile(entry)
                assert content is not None
                arrays.append(np.load(io.BytesIO(content.read()), allow_pickle=False))
                if len(arrays) == len(_FIELDS):
                    tokens, segments, documents = arrays
                    yield TokenChunk(first, tokens, segments, documents)
                    first += len(documents)
                    arrays = []


def _require_whole(path: Path, part: TokenPart) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from None
    if size != part.bytes:
        raise UserError(
            f"{path}: has {size:,} bytes instead of {part.bytes:,}; copy it again or tokenize again"
        )


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path}: cannot be read ({error.strerror}); copy it again or tokenize again")


def _open_checked(path: Path, part: TokenPart) -> io.BufferedReader:
    try:
        file = path.open("rb")
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from None
    if digest != part.sha256:
        file.close()
        raise UserError(
            f"{path}: is damaged or of another build (its SHA-256 is not that of tokens.json); "
            "copy it again or tokenize again"
        )
    file.seek(0)
    return file
