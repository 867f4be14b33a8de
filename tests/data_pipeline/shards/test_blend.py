import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convbert.data_pipeline.shards.blend import Blend

WEIGHTS = st.lists(st.floats(0.01, 100), min_size=1, max_size=16)


@settings(deadline=None)
@given(WEIGHTS, st.integers(0, 10**13), st.integers(0, 80), st.integers(0, 80))
def test_every_source_has_its_own_positions_without_gaps(
    weights: list[float], first: int, count: int, more: int
) -> None:
    blend = Blend(weights)
    dealt, before = blend.split(first, first + count + more)
    head, same = blend.split(first, first + count)
    tail, later = blend.split(first + count, first + count + more)
    assert sum(before) == first
    assert before == same
    assert np.array_equal(dealt, np.concatenate([head, tail]))
    for source in range(len(weights)):
        assert later[source] == before[source] + int((head == source).sum())


@settings(deadline=None, max_examples=60)
@given(WEIGHTS, st.integers(0, 10**12), st.integers(10_000, 30_000))
def test_weights_are_held_within_a_thousandth_of_any_window(
    weights: list[float], first: int, count: int
) -> None:
    dealt, _ = Blend(weights).split(first, first + count)
    shares = np.bincount(dealt, minlength=len(weights)) / count
    assert np.abs(shares - np.array(weights) / sum(weights)).max() <= 0.001


def test_the_deal_is_pinned() -> None:
    """A run resumed under another deal would repeat and lose sequences without a word."""
    dealt, before = Blend([3, 1, 0.5]).split(100, 118)
    assert (dealt.tolist(), before) == (
        [0, 0, 1, 0, 0, 1, 0, 0, 2, 0, 0, 1, 0, 0, 1, 0, 0, 2],
        [66, 22, 12],
    )


def test_only_ratios_count() -> None:
    assert Blend([3, 1]).parts == Blend([0.75, 0.25]).parts
    assert Blend([2, 1]).share(0) == pytest.approx(2 / 3)
