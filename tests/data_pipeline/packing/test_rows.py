from collections.abc import Callable
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convbert.data_pipeline.packing.rows import (
    Documents,
    Row,
    RowFormat,
    pack_electra,
    pack_full,
    to_array,
)
from convbert.data_pipeline.segmentation import split_segments

PAD, CLS, SEP = 0, 2, 3
SEGMENT = st.lists(st.integers(5, 99), max_size=40)
DOCUMENTS = st.lists(st.lists(SEGMENT, max_size=8), max_size=6)
LENGTHS = st.integers(8, 48)


def numbered(documents: list[list[list[int]]]) -> list[tuple[int, list[list[int]]]]:
    return list(enumerate(documents))


def flat(segments: list[list[int]]) -> list[int]:
    return list(chain.from_iterable(segments))


def text_of(rows: list[Row]) -> list[int]:
    return [token for row in rows for token in row if token not in (CLS, SEP)]


def rows_of(length: int) -> RowFormat:
    return RowFormat(length, PAD, CLS, SEP)


def prose(documents: int, rng: np.random.Generator) -> Documents:
    """Documents of sentences of some 25 tokens."""
    for number in range(documents):
        lengths = rng.integers(5, 45, size=rng.integers(1, 60))
        yield number, [rng.integers(5, 99, size=n).tolist() for n in lengths]


@given(DOCUMENTS, LENGTHS, st.integers(0, 99))
@settings(deadline=None)
def test_electra_rows_hold_every_token_in_order_and_fit(
    documents: list[list[list[int]]], length: int, seed: int
) -> None:
    packed = [pack_electra([d], rows_of(length), seed) for d in numbered(documents)]
    for rows, segments in zip(packed, documents, strict=True):
        assert text_of(rows) == flat(segments)
        for row in rows:
            assert len(row) <= length
            first, *rest = "".join("." if t > SEP else "?PCS"[t] for t in row).split("S")
            assert first.startswith("C.")
            # One segment and its separator, or a second one that is not empty either.
            assert rest == [""] or (len(rest) == 2 and rest[0] and rest[1] == "")
    together = pack_electra(numbered(documents), rows_of(length), seed)
    assert together == flat(packed)


@given(DOCUMENTS, LENGTHS)
@settings(deadline=None)
def test_full_rows_hold_every_token_in_order_without_gaps(
    documents: list[list[list[int]]], length: int
) -> None:
    packed = pack_full(numbered(documents), rows_of(length), 0)
    assert text_of(packed) == [t for d in documents for t in flat(d)]
    for row in packed:
        assert len(row) <= length
        assert row[0] == CLS
        assert row[-1] == SEP
        assert row.count(CLS) == row.count(SEP)
    assert all(len(row) > length - 3 for row in packed[:-1])


def test_a_piece_never_spans_documents() -> None:
    packed = pack_full([(0, [[10] * 5]), (1, [[11] * 3, [11] * 4]), (2, [[12]])], rows_of(12), 0)
    assert packed == [
        [CLS, *[10] * 5, SEP, CLS, *[11] * 3, SEP],
        [CLS, *[11] * 4, SEP, CLS, 12, SEP],
    ]


@pytest.mark.parametrize("pack", [pack_electra, pack_full])
def test_one_long_segment_is_cut_into_full_rows(
    pack: Callable[[Documents, RowFormat, int], list[Row]],
) -> None:
    """A line of 200,000 tokens takes time in proportion to its length."""
    packed = pack([(0, [[7] * 200_000])], rows_of(128), 0)
    assert len(text_of(packed)) == 200_000
    assert np.median([len(row) for row in packed]) == 128


def test_electra_shares_of_single_and_short_rows_are_the_published_ones() -> None:
    rng = np.random.default_rng(0)
    long_documents = [
        (n, [rng.integers(5, 99, size=25).tolist() for _ in range(400)]) for n in range(40)
    ]
    packed = pack_electra(long_documents, rows_of(128), 0)
    lengths = np.array([len(row) for row in packed])
    pairs = np.array([row.count(SEP) == 2 for row in packed])
    assert np.mean(lengths < 126) == pytest.approx(0.05, abs=0.015)
    assert np.mean(~pairs) == pytest.approx(0.1, abs=0.02)
    first = np.array([row.index(SEP) - 1 for row in packed])[pairs & (lengths == 128)]
    assert first.mean() == pytest.approx(62, abs=8)


def test_prose_fills_most_of_a_row() -> None:
    packed = pack_electra(prose(300, np.random.default_rng(1)), rows_of(128), 0)
    assert np.mean([len(row) for row in packed]) > 0.88 * 128
    packed = pack_full(prose(300, np.random.default_rng(1)), rows_of(128), 0)
    assert np.mean([len(row) for row in packed]) > 0.99 * 128


def test_choices_depend_on_seed_and_document_number_only() -> None:
    document = [[9] * 25 for _ in range(100)]
    rows = rows_of(64)
    once = pack_electra([(7, document)], rows, 1)
    assert once == pack_electra([(3, [[8]]), (7, document)], rows, 1)[1:]
    assert once != pack_electra([(7, document)], rows, 2)
    assert once != pack_electra([(8, document)], rows, 1)


def test_rows_are_padded_at_the_end() -> None:
    assert to_array([[CLS, 9, SEP], [CLS, 8, 7, SEP]], rows_of(5)).tolist() == [
        [CLS, 9, SEP, PAD, PAD],
        [CLS, 8, 7, SEP, PAD],
    ]


@pytest.mark.parametrize("length", [128, 512])
def test_full_rows_hold_less_than_one_per_cent_padding(documents: list[str], length: int) -> None:
    # Words stand for tokens: what counts is how long real documents are.
    words = [[[5] * len(part.split()) for part in split_segments(text)] for text in documents]
    packed = to_array(pack_full(numbered(words), rows_of(length), 0), rows_of(length))
    assert packed.size > 50 * length
    assert (packed == PAD).mean() < 0.01
