"""What holds for any shards, seeds, epochs, blends and numbers of processes."""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convbert.data_pipeline.loading.loader import ShardLoader
from convbert.data_pipeline.shards.manifest import Manifest
from convbert.data_pipeline.shards.sources import Corpus, Source
from convbert.models.errors import UserError

CLS, SEP, LENGTH = 2, 3, 16
Write = Callable[[Path, np.ndarray], Manifest]
WORLDS = st.integers(1, 64)


@dataclass(frozen=True)
class Setup:
    """Shard sets whose rows say their source and number, and a size of global batches."""

    sources: list[Source]
    sizes: list[int]
    seed: int

    def loaders(self, world: int, global_batch: int) -> list[ShardLoader]:
        return [
            ShardLoader(
                self.sources, global_batch=global_batch, rank=r, world_size=world, seed=self.seed
            )
            for r in range(world)
        ]

    def read(self, world: int, global_batch: int, steps: range) -> list[tuple[int, int]]:
        """Return (source, number) of all sequences in the order of their positions."""
        loaders = self.loaders(world, global_batch)
        found = []
        for step in steps:
            for rank, loader in enumerate(loaders):
                batch = loader.batch(step)
                share = global_batch // world
                first = step * global_batch + rank * share
                assert batch.positions.tolist() == list(range(first, first + share))
                found += [identity(row) for row in batch.input_ids.tolist()]
        for loader in loaders:
            loader.close()
        return found


def numbered_rows(source: int, count: int) -> np.ndarray:
    rows = np.zeros((count, LENGTH), dtype=np.uint16)
    numbers = np.arange(count)
    rows[:, 0], rows[:, 4] = CLS, SEP
    rows[:, 1], rows[:, 2], rows[:, 3] = 10 + source, 10 + numbers // 480, 10 + numbers % 480
    return rows


def identity(row: list[int]) -> tuple[int, int]:
    return row[1] - 10, (row[2] - 10) * 480 + row[3] - 10


@contextmanager
def setup_of(write: Write, sizes: list[int], weights: list[float], seed: int) -> Iterator[Setup]:
    with tempfile.TemporaryDirectory() as folder:
        sources = []
        for number, (size, weight) in enumerate(zip(sizes, weights, strict=True)):
            place = Path(folder) / str(number)
            write(place, numbered_rows(number, size))
            sources.append(Source(manifest=str(place), weight=weight))
        yield Setup(sources, sizes, seed)


@settings(deadline=None, max_examples=15)
@given(
    st.integers(64, 2500), st.integers(0, 2**40), WORLDS, st.integers(1, 12), st.integers(0, 10**6)
)
def test_each_epoch_has_every_sequence_once_and_an_order_of_its_own(
    make_shards: Write, size: int, seed: int, world: int, share: int, far: int
) -> None:
    batch = max(1, min(size // world, share)) * world
    with setup_of(make_shards, [size], [1.0], seed) as setup:
        epoch = far % 1000
        first, last = epoch * size // batch, -(-(epoch + 2) * size // batch)
        found = setup.read(world, batch, range(first, last))
        start = epoch * size - first * batch
        one, two = found[start : start + size], found[start + size : start + 2 * size]
    everything = [(0, number) for number in range(size)]
    assert sorted(one) == sorted(two) == everything
    assert one != two != everything


@settings(deadline=None, max_examples=15)
@given(st.data())
def test_global_batches_do_not_depend_on_the_processes_nor_on_where_a_run_stopped(
    make_shards: Write,
    data: st.DataObject,
) -> None:
    count = data.draw(st.integers(1, 3))
    sizes = data.draw(st.lists(st.integers(400, 1500), min_size=count, max_size=count))
    weights = data.draw(st.lists(st.floats(0.3, 3), min_size=count, max_size=count))
    before, after = data.draw(WORLDS), data.draw(WORLDS)
    batch = int(np.lcm(before, after))
    batch = batch * max(1, 120 // batch) if batch <= 300 else before * 5
    if batch % after:
        after = next(w for w in range(after, 0, -1) if batch % w == 0)
    steps, stop = 8, data.draw(st.integers(0, 8))
    offset = data.draw(st.integers(0, 40))
    with setup_of(make_shards, sizes, weights, data.draw(st.integers(0, 99))) as setup:
        alone = setup.read(1, batch, range(offset, offset + steps))
        stopped = setup.read(before, batch, range(offset, offset + stop))
        continued = setup.read(after, batch, range(offset + stop, offset + steps))
    assert stopped + continued == alone


@settings(deadline=None, max_examples=8)
@given(st.lists(st.tuples(st.integers(300, 900), st.floats(0.2, 5)), min_size=2, max_size=4))
def test_a_blend_keeps_weights_and_each_source_its_epochs(
    make_shards: Write, parts: list[tuple[int, float]]
) -> None:
    sizes, weights = [size for size, _ in parts], [weight for _, weight in parts]
    with setup_of(make_shards, sizes, weights, 5) as setup:
        found = setup.read(1, 250, range(44))
    counts = Counter(source for source, _ in found)
    for source, size in enumerate(sizes):
        assert abs(counts[source] / len(found) - weights[source] / sum(weights)) <= 0.001
        numbers = [number for which, number in found if which == source]
        for start in range(0, len(numbers) - size + 1, size):
            assert sorted(numbers[start : start + size]) == list(range(size))


def test_one_source_is_read_as_its_manifest_alone_whatever_its_weight(
    make_shards: Write, tmp_path: Path
) -> None:
    make_shards(tmp_path / "one", numbered_rows(0, 900))
    alone = ShardLoader(tmp_path / "one", global_batch=300)
    blend = ShardLoader([Source(manifest=str(tmp_path / "one"), weight=7)], global_batch=300)
    assert alone.batch(1).input_ids.equal(blend.batch(1).input_ids)
    assert alone.corpus.digest == blend.corpus.digest == Manifest.load(tmp_path / "one").digest


def test_the_digest_of_a_blend_covers_contents_and_ratios(
    make_shards: Write, tmp_path: Path
) -> None:
    for number in range(2):
        make_shards(tmp_path / str(number), numbered_rows(number, 100))

    def digest(*weights: float) -> str:
        places = [str(tmp_path / str(n)) for n in range(len(weights))]
        return Corpus(
            [Source(manifest=p, weight=w) for p, w in zip(places, weights, strict=True)]
        ).digest

    assert digest(1, 3) == digest(0.25, 0.75)
    assert len({digest(1, 3), digest(3, 1), digest(1), digest(1, 1)}) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer_digest": "8" * 64}, "1: has tokenizer_digest 8888.*one tokenizer"),
        ({"vocab_size": 501}, "has vocab_size 501, .* has 500; build all with one tokenizer"),
        ({"seq_len": 8}, "has seq_len 8, .* has 16; pack all to one length"),
        ({"packing": "full"}, "has packing full, .* has electra; pack all in one way"),
        ({}, "1 is listed twice; add up the weights"),
    ],
)
def test_sources_that_do_not_agree_are_refused(
    make_shards: Write, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    manifest = make_shards(tmp_path / "0", numbered_rows(0, 100))
    (tmp_path / "1").mkdir()
    manifest.model_copy(update=change).save(tmp_path / "1" / "manifest.json")
    sources = [Source(manifest=str(tmp_path / name)) for name in "01"]
    with pytest.raises(UserError, match=message) as refused:
        ShardLoader(sources, global_batch=10)
    assert "\n" not in str(refused.value)


def test_a_source_smaller_than_its_share_of_a_batch_is_refused(
    make_shards: Write, tmp_path: Path
) -> None:
    for number, size in enumerate((1000, 40)):
        make_shards(tmp_path / str(number), numbered_rows(number, size))
    sources = [Source(manifest=str(tmp_path / name)) for name in "01"]
    with pytest.raises(
        UserError, match=r"1: 40 sequences are fewer than its share of one .*\(51\)"
    ):
        ShardLoader(sources, global_batch=100)
