"""Small shard sets with known rows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from convbert.data_pipeline.shards.manifest import Manifest, Packing
from convbert.data_pipeline.shards.writer import ShardWriter

PAD, CLS, SEP, LENGTH, VOCABULARY = 0, 2, 3, 16, 500

Rows = NDArray[np.uint16]


def random_rows(count: int, packing: Packing = "electra") -> Rows:
    """Rows [n, 16] of one or two segments (electra) or of several documents (full)."""
    random = np.random.default_rng(0)
    rows = np.zeros((count, LENGTH), dtype=np.uint16)
    for row in rows:
        tokens: list[int] = []
        for part in range(random.integers(1, 3 if packing == "electra" else 4)):
            tokens += [CLS] if part == 0 or packing == "full" else []
            tokens += [*random.integers(5, VOCABULARY, random.integers(1, 4)), SEP]
        row[: len(tokens)] = tokens
    return rows


def write_shards(folder: Path, rows: Rows, packing: Packing = "electra") -> Manifest:
    """Write rows as a set of small tars, as a build does."""
    folder.mkdir()
    writer = ShardWriter(folder, rows.shape[1], VOCABULARY, shard_bytes=40_000)
    writer.write(rows)
    manifest = Manifest(
        tool="test",
        tokenizer_digest="7" * 64,
        vocab_size=VOCABULARY,
        pad_id=PAD,
        cls_id=CLS,
        sep_id=SEP,
        seq_len=rows.shape[1],
        packing=packing,
        num_documents=1,
        num_sequences=len(rows),
        num_tokens=int((rows != PAD).sum()),
        build={},
        shards=writer.close(),
    )
    manifest.save(folder / "manifest.json")
    return manifest


@pytest.fixture(scope="session")
def electra(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Rows]:
    """A set of 5,000 rows of segment pairs in four shards, and the rows."""
    folder, rows = tmp_path_factory.mktemp("data") / "electra", random_rows(5000)
    write_shards(folder, rows)
    return folder, rows


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Rows]:
    """A set of 1,300 rows of several documents, and the rows."""
    folder, rows = tmp_path_factory.mktemp("data") / "full", random_rows(1300, "full")
    write_shards(folder, rows, "full")
    return folder, rows


@pytest.fixture
def spoilable(tmp_path: Path) -> Path:
    """A set of 4,000 rows in three shards that a test may damage."""
    folder = tmp_path / "spoilable"
    write_shards(folder, random_rows(4000))
    return folder


@pytest.fixture(scope="session")
def make_shards() -> Callable[[Path, Rows], Manifest]:
    """Return the function that writes rows as a shard set."""
    return write_shards
