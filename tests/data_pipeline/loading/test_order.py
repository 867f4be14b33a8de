import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convbert.data_pipeline.loading.order import GlobalOrder, permute

ORDERS = st.builds(
    lambda digest, seed, size, block, window: GlobalOrder(
        digest, seed, size, block=block, window=window
    ),
    st.text("0123456789abcdef", min_size=8, max_size=8),
    st.integers(0, 2**32),
    st.integers(1, 600),
    st.integers(1, 40),
    st.integers(1, 8),
)


@given(st.integers(1, 3000), st.integers(0, 2**63))
@settings(deadline=None)
def test_permute_is_a_bijection(size: int, key: int) -> None:
    assert sorted(permute(np.arange(size), size, key)) == list(range(size))


def test_permutations_of_large_ranges_look_random() -> None:
    size, count = 10**12 + 39, 4000
    image = permute(np.arange(count), size, 7)
    assert len(set(image.tolist())) == count
    assert image.min() >= 0
    assert image.max() < size
    assert image.mean() / size == pytest.approx(0.5, abs=0.03)
    assert abs(np.corrcoef(np.arange(count), image)[0, 1]) < 0.06


@given(ORDERS, st.integers(0, 5))
@settings(deadline=None)
def test_every_sequence_comes_exactly_once_per_epoch(order: GlobalOrder, epoch: int) -> None:
    found = order.sequences(epoch * order.size, (epoch + 1) * order.size)
    assert sorted(found) == list(range(order.size))


@given(ORDERS)
@settings(deadline=None)
def test_windows_tile_the_epoch(order: GlobalOrder) -> None:
    extents = [order.extent(0, window) for window in range(order.windows())]
    assert sum(extents) == order.size
    for window, extent in enumerate(extents):
        spans = order.spans(0, window)
        assert sum(last - first for first, last in spans) == extent > 0
        assert len(spans) <= order.window
        assert all(first % order.block == 0 for first, _ in spans)


@given(ORDERS, st.data())
@settings(deadline=None)
def test_any_range_equals_its_positions_one_by_one(order: GlobalOrder, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, 3 * order.size))
    count = data.draw(st.integers(0, 60))
    together = order.sequences(first, first + count)
    apart = [order.sequences(p, p + 1)[0] for p in range(first, first + count)]
    assert together.tolist() == apart


def test_epochs_seeds_and_corpora_have_orders_of_their_own() -> None:
    size = 1000
    order = GlobalOrder("a", 0, size, block=16, window=4)
    first = order.sequences(0, size).tolist()
    others = [
        order.sequences(size, 2 * size),
        GlobalOrder("a", 1, size, block=16, window=4).sequences(0, size),
        GlobalOrder("b", 0, size, block=16, window=4).sequences(0, size),
    ]
    for other in others:
        assert np.mean(np.array(first) == other) < 0.02


def test_the_short_block_moves_and_the_order_is_well_mixed() -> None:
    order = GlobalOrder("a", 0, 1009, block=16, window=4)
    places = [order.sequences(e * 1009, (e + 1) * 1009).tolist().index(1008) for e in range(40)]
    assert len({place // 64 for place in places}) > 8
    # Neighbours in a batch come from different blocks, not from a run of the input.
    sequence = order.sequences(0, 1009)
    assert np.mean(np.diff(sequence) == 1) < 0.05


def test_the_order_is_pinned() -> None:
    """A run resumed under another order would repeat and lose sequences without a word."""
    order = GlobalOrder("digest", 1, 100, block=8, window=3)
    assert order.sequences(95, 105).tolist() == [81, 82, 80, 84, 85, 76, 36, 32, 35, 77]
