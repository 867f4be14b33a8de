import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convbert.data_pipeline.loading.batch import Batch
from convbert.data_pipeline.loading.loader import ShardLoader
from convbert.data_pipeline.packing.rows import LONGEST_ROW
from convbert.data_pipeline.shards.manifest import Manifest
from convbert.data_pipeline.shards.writer import ShardWriter
from convbert.models.errors import UserError

PAD, CLS, SEP, LENGTH = 0, 2, 3, 16


def assert_equal(left: Batch, right: Batch) -> None:
    for name in ("input_ids", "token_type_ids", "document_ids", "positions"):
        assert torch.equal(getattr(left, name), getattr(right, name)), name


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_ranks_together_read_the_global_order(
    electra: tuple[Path, np.ndarray], data: st.DataObject
) -> None:
    folder, rows = electra
    world = data.draw(st.integers(1, 64))
    batch = world * data.draw(st.integers(1, 60))
    step = data.draw(st.integers(0, 3 * len(rows) // batch))
    seed = data.draw(st.integers(0, 3))
    ranks = range(world) if world < 5 else [0, world // 2, world - 1]
    for rank in ranks:
        loader = ShardLoader(folder, global_batch=batch, rank=rank, world_size=world, seed=seed)
        found = loader.batch(step)
        first = step * batch + rank * (batch // world)
        last = first + batch // world
        assert found.positions.tolist() == list(range(first, last))
        expected = rows[loader.streams[0].order.sequences(first, last)]
        assert np.array_equal(found.input_ids.numpy(), expected)
        loader.close()


def test_an_epoch_reads_every_row_once_and_rolls_over(electra: tuple[Path, np.ndarray]) -> None:
    folder, rows = electra
    loader = ShardLoader(folder, global_batch=384)
    steps = -(-2 * len(rows) // 384)
    stream = np.concatenate([loader.batch(step).input_ids.numpy() for step in range(steps)])
    stored = sorted(map(bytes, rows.astype(np.int64)))
    assert sorted(map(bytes, stream[: len(rows)])) == stored
    assert sorted(map(bytes, stream[len(rows) : 2 * len(rows)])) == stored
    assert not np.array_equal(stream[: len(rows)], stream[len(rows) : 2 * len(rows)])


def test_types_and_documents_of_segment_pairs(electra: tuple[Path, np.ndarray]) -> None:
    batch = ShardLoader(electra[0], global_batch=500).batch(1)
    assert not batch.packed
    for number, row in enumerate(batch.input_ids.tolist()):
        length = LENGTH - row.count(PAD)
        first = row.index(SEP) + 1
        assert batch.document_ids[number].tolist() == [1] * length + [0] * (LENGTH - length)
        types = [0] * first + [1] * (length - first) + [0] * (LENGTH - length)
        assert batch.token_type_ids[number].tolist() == types


def test_types_of_the_longest_rows(
    make_shards: Callable[[Path, np.ndarray], Manifest], tmp_path: Path
) -> None:
    rows = np.full((2, LONGEST_ROW), 7, np.uint16)
    rows[:, 0], rows[:, -1] = CLS, SEP
    rows[0, 100] = rows[1, 50_000] = SEP
    make_shards(tmp_path / "long", rows)
    batch = ShardLoader(tmp_path / "long", global_batch=2).batch(0)
    assert sorted(batch.token_type_ids.sum(1).tolist()) == [LONGEST_ROW - n for n in (50_001, 101)]


def test_documents_of_full_rows(full: tuple[Path, np.ndarray]) -> None:
    batch = ShardLoader(full[0], global_batch=500).batch(1)
    assert batch.packed
    assert not batch.token_type_ids.any()
    for number, row in enumerate(batch.input_ids.tolist()):
        expected = [row[: i + 1].count(CLS) if token != PAD else 0 for i, token in enumerate(row)]
        assert batch.document_ids[number].tolist() == expected


def test_every_tensor_is_int64(full: tuple[Path, np.ndarray]) -> None:
    batch = ShardLoader(full[0], global_batch=8).batch(0)
    for name in ("input_ids", "token_type_ids", "document_ids", "positions"):
        assert getattr(batch, name).dtype == torch.int64


def test_reading_ahead_gives_the_same_batches(electra: tuple[Path, np.ndarray]) -> None:
    loader = ShardLoader(electra[0], global_batch=300, rank=1, world_size=3)
    direct = [loader.batch(step) for step in range(7, 47)]
    ahead = loader.iterate(7)
    for expected in direct:
        assert_equal(next(ahead), expected)
    loader.close()


def test_close_ends_the_iterator_and_the_thread(electra: tuple[Path, np.ndarray]) -> None:
    loader = ShardLoader(electra[0], global_batch=300)
    ahead = loader.iterate()
    next(ahead)
    loader.close()
    assert list(ahead) == []
    assert not [t for t in threading.enumerate() if t.name == "shard-loader"]


def test_a_fault_while_reading_ahead_reaches_the_consumer(spoilable: Path) -> None:
    loader = ShardLoader(spoilable, global_batch=100)
    (spoilable / "shard-000001.tar").unlink()
    with pytest.raises(UserError, match=r"shard-000001.tar: cannot be opened .*rebuild"):
        list(loader.iterate())


def test_more_shards_than_open_files(
    electra: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convbert.data_pipeline.shards.store._OPEN_SHARDS", 2)
    folder, rows = electra
    assert len(Manifest.load(folder).shards) > 2
    loader = ShardLoader(folder, global_batch=1000)
    found = np.concatenate([loader.batch(step).input_ids.numpy() for step in range(5)])
    assert np.array_equal(found, rows[loader.streams[0].order.sequences(0, 5000)])


def test_large_vocabularies_keep_their_ids(spoilable: Path, tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, 4, 200_000, 1 << 20)
    writer.write(np.array([[2, 199_999, 3, 0], [2, 65_536, 7, 3]], dtype=np.uint32))
    changes = {"vocab_size": 200_000, "seq_len": 4, "num_sequences": 2, "shards": writer.close()}
    Manifest.load(spoilable).model_copy(update=changes).save(tmp_path / "manifest.json")
    ids = ShardLoader(tmp_path, global_batch=2).batch(0).input_ids
    assert sorted(ids[:, 1].tolist()) == [65_536, 199_999]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"global_batch": 5001}, r"5000 sequences are fewer than one global batch \(5001\); add"),
        ({"global_batch": 10, "world_size": 4}, "does not divide among 4 processes; use"),
        ({"global_batch": 8, "tokenizer_digest": "x" * 64}, "another tokenizer .*rebuild"),
    ],
)
def test_unusable_settings_are_refused(
    electra: tuple[Path, np.ndarray], options: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        ShardLoader(electra[0], **options)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: no manifest; build shards with"):
        ShardLoader(tmp_path / "nowhere", global_batch=1)
