"""Clusters of documents whose bands meet, and the one of each that stays.

The work is split by ranges of the band hash, so no task holds more than its range. A range gives
*edges* between documents that share a hash; edges of several ranges are reduced to a forest that
connects the same documents, which has fewer edges than documents. The survivor of a cluster is the
document with the smallest digest of its text: it depends neither on the order of files nor on how
the work was split.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from convbert.data_pipeline.dedup.records import HASHES, KEY, KEYS, ROWS

# A document of the corpus: the number of its piece and its row there, (piece << 32) | row.
Edges = NDArray[np.uint64]
DROPPED = np.dtype([("document", "<u8"), ("survivor", "<u8"), ("exact", "?")])
Dropped = NDArray[np.void]

_ROW_BITS, _ROW_MASK = np.uint64(32), np.uint64((1 << 32) - 1)


def edges_of_range(pieces: Iterable[tuple[int, Path]], first: int, last: int) -> Edges:
    """Return edges [m, 2] between documents that share a hash in ``[first, last)``.

    ``pieces`` are numbers and folders. Of all documents with one hash, each is joined to the first.
    """
    hashes, documents = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
    for number, folder in pieces:
        sorted_hashes = np.load(folder / HASHES, mmap_mode="r")
        bounds = slice(_position(sorted_hashes, first), _position(sorted_hashes, last))
        hashes.append(np.array(sorted_hashes[bounds]))
        rows = np.load(folder / ROWS, mmap_mode="r")[bounds]
        documents.append(rows | np.uint64(number << 32))
    hash_n, document_n = np.concatenate(hashes), np.concatenate(documents)
    order = np.lexsort((document_n, hash_n))
    hash_n, document_n = hash_n[order], document_n[order]
    is_first = np.ones(len(hash_n), bool)
    is_first[1:] = hash_n[1:] != hash_n[:-1]
    heads = document_n[np.maximum.accumulate(np.where(is_first, np.arange(len(hash_n)), 0))]
    joined = document_n != heads
    return forest([np.stack([heads[joined], document_n[joined]], axis=1)])


def _position(hashes: NDArray[np.uint64], bound: int) -> int:
    """Return the first entry not below a bound; 2**64 is beyond all."""
    return len(hashes) if bound >> 64 else int(np.searchsorted(hashes, np.uint64(bound)))


def forest(parts: Sequence[Edges]) -> Edges:
    """Reduce edges to stars: each document of a cluster joined to its smallest, by document."""
    edges = np.concatenate([np.empty((0, 2), np.uint64), *parts])
    if not len(edges):
        return edges
    documents, numbers = np.unique(edges, return_inverse=True)
    numbers = numbers.reshape(-1, 2)
    graph = coo_array(
        (np.ones(len(edges), bool), (numbers[:, 0], numbers[:, 1])),
        shape=(len(documents), len(documents)),
    )
    _, labels = connected_components(graph, directed=False)
    heads = np.full(labels.max() + 1, len(documents), np.int64)
    np.minimum.at(heads, labels, np.arange(len(documents)))
    head = documents[heads[labels]]
    joined = head != documents
    return np.stack([head[joined], documents[joined]], axis=1)


def resolve(stars: Edges, pieces: Sequence[Path]) -> Dropped:
    """Return every document that goes, with the survivor of its cluster, sorted by document.

    ``exact`` says that another document of the cluster, which stays or goes for being near, has
    the same words.
    """
    if not len(stars):
        return np.empty(0, DROPPED)
    heads = np.concatenate([stars[:, 0], np.unique(stars[:, 0])])
    documents = np.concatenate([stars[:, 1], np.unique(stars[:, 0])])
    keys = _keys(documents, pieces)
    # Equal words next to each other within a cluster, the smallest text first.
    order = np.lexsort((documents, keys["text"], keys["words"], heads))
    exact = np.zeros(len(order), bool)
    exact[1:] = (heads[order][1:] == heads[order][:-1]) & (
        keys["words"][order][1:] == keys["words"][order][:-1]
    )
    by_text = np.lexsort((documents, keys["text"], heads))
    is_first = np.ones(len(by_text), bool)
    is_first[1:] = heads[by_text][1:] != heads[by_text][:-1]
    survivors = documents[by_text][is_first]
    dropped = np.empty(len(order), DROPPED)
    dropped["document"] = documents[order]
    dropped["exact"] = exact
    dropped["survivor"] = survivors[np.searchsorted(heads[by_text][is_first], heads[order])]
    dropped = dropped[dropped["document"] != dropped["survivor"]]
    return np.sort(dropped, order="document")


def _keys(documents: NDArray[np.uint64], pieces: Sequence[Path]) -> NDArray[np.void]:
    """Look up the keys of documents, piece by piece."""
    keys = np.empty(len(documents), KEY)
    order = np.argsort(documents)
    numbers = documents[order] >> _ROW_BITS
    found, starts = np.unique(numbers, return_index=True)
    for number, start, stop in zip(found, starts, [*starts[1:], len(order)], strict=True):
        chosen = order[start:stop]
        rows = documents[chosen] & _ROW_MASK
        keys[chosen] = np.load(pieces[int(number)] / KEYS, mmap_mode="r")[rows]
    return keys


def save_dropped(dropped: Dropped, folder: Path) -> None:
    """Write the fields as files of their own, so that a part can be found without the rest."""
    for name in DROPPED.names or ():
        np.save(folder / f"{name}.npy", dropped[name])


def dropped_of_piece(folder: Path, number: int) -> Dropped:
    """Read the part of a saved ``Dropped`` that concerns one piece; documents are rows then."""
    files = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in DROPPED.names or ()}
    first, last = np.searchsorted(
        files["document"], np.array([number, number + 1], np.uint64) << _ROW_BITS
    )
    part = np.empty(last - first, DROPPED)
    for name, values in files.items():
        part[name] = values[first:last]
    part["document"] &= _ROW_MASK
    return part


def hash_ranges(entries: int, entries_per_range: int) -> list[tuple[int, int]]:
    """Split all hashes into ranges that hold about so many of ``entries``."""
    count = max(1, -(-entries // entries_per_range))
    bounds = [(1 << 64) * i // count for i in range(count + 1)]
    return list(pairwise(bounds))
