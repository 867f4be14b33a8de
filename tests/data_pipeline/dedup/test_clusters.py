import random
from pathlib import Path

import numpy as np
import pytest

from convbert.data_pipeline.dedup.clusters import (
    dropped_of_piece,
    edges_of_range,
    forest,
    hash_ranges,
    resolve,
    save_dropped,
)
from convbert.data_pipeline.dedup.dedup_settings import DedupConfig
from convbert.data_pipeline.dedup.records import PieceRecords
from convbert.data_pipeline.dedup.words import hash_words, words


def edited(text: str, share: float, choice: random.Random) -> str:
    """Replace a share of the words."""
    return " ".join(
        f"w{choice.randrange(10**6)}" if choice.random() < share else w for w in text.split()
    )


@pytest.fixture(scope="module")
def texts(documents: list[str]) -> list[str]:
    """Real documents, each long enough, and per document copies that differ more and more."""
    choice = random.Random(0)
    # "Naming and binding" is two thirds of "Execution model", a near duplicate by itself.
    distinct = [t for t in dict.fromkeys(documents) if not t.startswith("Naming and binding")]
    long = [text for text in distinct if len(words(text)) > 90]
    originals = long[:60]
    assert len(originals) == 60
    copies = []
    for number, text in enumerate(originals):
        if number % 3 == 0:
            copies += [text, text.upper(), f"{text} Some words more."]
        elif number % 3 == 1:
            copies.append(edited(text, 0.5, choice))
    return [*originals, *copies]


def survivors(
    folder: Path, texts: list[str], *, pieces: int, ranges: int, config: DedupConfig, seed: int = 0
) -> tuple[set[str], int, int]:
    """Deduplicate as the pipeline does; return the texts left and the counts of dropped ones."""
    shuffled = random.Random(seed).sample(texts, len(texts))
    parts = [shuffled[i::pieces] for i in range(pieces)]
    folders = []
    total = 0
    for number, part in enumerate(parts):
        folders.append(folder / f"{pieces}-{ranges}-{seed}-{number}")
        folders[-1].mkdir()
        records = PieceRecords(config)
        for start in range(0, len(part), 7):
            batch = part[start : start + 7]
            records.add(batch, hash_words(batch))
        records.save(folders[-1])
        total += len(np.load(folders[-1] / "hashes.npy"))
    stars = [
        edges_of_range(enumerate(folders), first, last)
        for first, last in hash_ranges(total, -(-total // ranges))
    ]
    assert abs(len(stars) - ranges) <= 1
    merged = forest([forest(stars[::2]), forest(stars[1::2])])
    out = folder / f"dropped-{pieces}-{ranges}-{seed}"
    out.mkdir()
    save_dropped(resolve(merged, folders), out)
    left: list[str] = []
    exact = near = 0
    for number, part in enumerate(parts):
        dropped = dropped_of_piece(out, number)
        exact += int(dropped["exact"].sum())
        near += int((~dropped["exact"]).sum())
        gone = set(dropped["document"].tolist())
        left += [text for row, text in enumerate(part) if row not in gone]
    assert len(left) == len(set(left))
    return set(left), exact, near


def test_survivors_depend_neither_on_order_nor_on_the_split(
    tmp_path: Path, texts: list[str]
) -> None:
    config = DedupConfig()
    one = survivors(tmp_path, texts, pieces=1, ranges=1, config=config)
    for pieces, ranges, seed in ((3, 5, 1), (7, 2, 2), (20, 64, 3)):
        other = survivors(tmp_path, texts, pieces=pieces, ranges=ranges, config=config, seed=seed)
        assert other == one


def test_copies_go_and_different_documents_stay(tmp_path: Path, texts: list[str]) -> None:
    left, exact, near = survivors(tmp_path, texts, pieces=2, ranges=3, config=DedupConfig())
    # 20 clusters of an original, an equal, a shouted and a slightly edited copy.
    assert exact == 40
    assert near == 20
    assert len(left) == 60 + 20


def test_exact_mode_keeps_edited_copies(tmp_path: Path, texts: list[str]) -> None:
    config = DedupConfig(mode="exact")
    left, exact, near = survivors(tmp_path, texts, pieces=2, ranges=3, config=config)
    assert (len(left), exact, near) == (100, 40, 0)


def test_nothing_goes_when_off(tmp_path: Path) -> None:
    records = PieceRecords(DedupConfig(mode="off"))
    records.add(["a", "a"], hash_words(["a", "a"]))
    records.save(tmp_path)
    assert not len(resolve(edges_of_range([(0, tmp_path)], 0, 1 << 64), [tmp_path]))


def test_similarity_decides_as_documented(tmp_path: Path, documents: list[str]) -> None:
    """At Jaccard similarity 0.9 nearly all meet, at 0.4 nearly none."""
    choice = random.Random(1)
    base = " ".join(documents).split()
    found = {}
    for share in (0.01, 0.15):  # of words replaced: each spoils five shingles
        pairs = []
        for start in range(0, 40_000, 400):
            text = " ".join(f"{start}{w}" for w in base[start : start + 400])
            pairs += [text, edited(text, share, choice)]
        left, _, _ = survivors(
            tmp_path, pairs, pieces=1, ranges=1, config=DedupConfig(), seed=int(share * 100)
        )
        found[share] = len(pairs) - len(left)
    assert found[0.01] >= 97
    assert found[0.15] <= 5


def test_forests_connect_what_the_edges_do() -> None:
    choice = np.random.default_rng(0)
    edges = choice.integers(0, 3000, (1500, 2)).astype(np.uint64) * np.uint64(1 << 33)
    parent = {int(v): int(v) for v in np.unique(edges)}

    def root(v: int) -> int:
        while parent[v] != v:
            v = parent[v]
        return v

    for a, b in edges.tolist():
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    expected = [(root(v), v) for v in sorted(parent) if root(v) != v]
    assert forest([edges]).tolist() == [list(pair) for pair in expected]
    parts = [forest([edges[i::4]]) for i in range(4)]
    assert forest(parts).tolist() == forest([edges]).tolist()
