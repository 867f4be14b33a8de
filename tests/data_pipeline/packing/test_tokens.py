"""A tokenized corpus gives the shards of a direct build, at any length, and nothing is lost."""

import json
import os
import tempfile
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convbert.data_pipeline.packing.build import (
    RowSettings,
    build_shards,
    pack_tokens,
    tokenize_corpus,
)
from convbert.data_pipeline.packing.tokens import (
    TokenChunk,
    TokenManifest,
    TokenPart,
    TokenWriter,
    read_chunks,
)
from convbert.data_pipeline.shards.manifest import Packing
from convbert.data_pipeline.shards.store import SequenceStore
from convbert.models.errors import UserError

PAD, CLS, SEP = 0, 2, 3
SEGMENT = st.lists(st.integers(5, 70_000), max_size=30)
DOCUMENT = st.lists(SEGMENT, max_size=6)
CHUNKS = st.lists(st.lists(DOCUMENT, min_size=1, max_size=4), min_size=1, max_size=4)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def long_corpus(tmp_path_factory: pytest.TempPathFactory, documents: list[str]) -> Path:
    """More than one chunk of text."""
    path = tmp_path_factory.mktemp("long") / "long.jsonl"
    texts = [text for _ in range(3) for text in documents]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def chunk_of(first: int, documents: list[list[list[int]]]) -> TokenChunk:
    segments = list(chain.from_iterable(documents))
    return TokenChunk(
        first,
        np.array(list(chain.from_iterable(segments)), dtype=np.uint32),
        np.array([len(s) for s in segments], dtype=np.uint32),
        np.array([len(d) for d in documents], dtype=np.uint32),
    )


def manifest_of(parts: list[TokenPart], documents: int, tokens: int) -> TokenManifest:
    ids = {"pad_id": PAD, "cls_id": CLS, "sep_id": SEP, "vocab_size": 70_001}
    counts = {"num_documents": documents, "num_tokens": tokens}
    return TokenManifest(tool="test", tokenizer_digest="7", build={}, parts=parts, **ids, **counts)


def test_both_lengths_are_packed_from_one_tokenized_corpus_to_the_bytes_of_a_build(
    tmp_path: Path, long_corpus: Path, tokenizer_dir: Path
) -> None:
    made = tokenize_corpus([long_corpus], tokenizer_dir, tmp_path / "tokens", part_bytes=300_000)
    assert len(made.parts) > 1
    wanted: list[tuple[int, Packing]] = [(128, "electra"), (512, "electra"), (128, "full")]
    for length, packing in wanted:
        direct, packed = (tmp_path / f"{way}-{length}-{packing}" for way in ("direct", "packed"))
        rows = RowSettings(length, packing, seed=3)
        build_shards([long_corpus], tokenizer_dir, direct, rows=rows)
        pack_tokens(tmp_path / "tokens", packed, rows=rows)
        assert contents(direct) == contents(packed)


def test_tokenizing_does_not_depend_on_the_workers(
    tmp_path: Path, long_corpus: Path, tokenizer_dir: Path
) -> None:
    for workers in (1, 2):
        tokenize_corpus([long_corpus], tokenizer_dir, tmp_path / str(workers), workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


@settings(deadline=None, max_examples=60)
@given(CHUNKS, st.integers(8, 64), st.sampled_from(["electra", "full"]), st.integers(1, 4000))
def test_what_goes_in_comes_out_as_documents_and_as_rows(
    chunks: list[list[list[list[int]]]], length: int, packing: Packing, part_bytes: int
) -> None:
    documents = list(chain.from_iterable(chunks))
    tokens = [t for document in documents for segment in document for t in segment]
    with tempfile.TemporaryDirectory() as name:
        folder, shards = Path(name) / "tokens", Path(name) / "shards"
        folder.mkdir()
        with TokenWriter(folder, part_bytes) as writer:
            first = 0
            for chunk in chunks:
                writer.write(chunk_of(first, chunk))
                first += len(chunk)
        manifest = manifest_of(writer.parts, writer.documents, writer.tokens)
        manifest.save(folder)
        read = [d for chunk in read_chunks(folder, manifest) for d in chunk.split()]
        assert read == list(enumerate(documents))
        assert (writer.documents, writer.tokens) == (len(documents), len(tokens))
        if not tokens:
            return
        packed = pack_tokens(folder, shards, rows=RowSettings(length, packing))
        rows = SequenceStore(packed, shards).read([(0, packed.num_sequences)])
        assert rows[rows > SEP].tolist() == tokens
        assert packed.num_tokens == np.count_nonzero(rows)


def test_a_damaged_or_missing_file_is_named_before_a_shard_is_written(
    tmp_path: Path, corpus: Path, tokenizer_dir: Path
) -> None:
    tokens = tmp_path / "tokens"
    tokenize_corpus([corpus], tokenizer_dir, tokens)
    path = tokens / "tokens-000000.tar"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"tokens-000000\.tar: is damaged .*tokenize again"):
        pack_tokens(tokens, tmp_path / "out")
    path.unlink()
    with pytest.raises(UserError, match=r"tokens-000000\.tar: cannot be read \(No such file"):
        pack_tokens(tokens, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="no tokenized corpus; make one with"):
        pack_tokens(tmp_path, tmp_path / "out")


def test_a_cut_file_is_named_before_the_first_is_packed(tmp_path: Path) -> None:
    with TokenWriter(tmp_path, part_bytes=1) as writer:
        for number in range(3):
            writer.write(chunk_of(number, [[[7, 8, 9]]]))
    os.truncate(tmp_path / "tokens-000002.tar", 1000)
    chunks = read_chunks(tmp_path, manifest_of(writer.parts, writer.documents, writer.tokens))
    with pytest.raises(UserError, match=r"tokens-000002\.tar: has 1,000 bytes instead of .*; copy"):
        next(chunks)
