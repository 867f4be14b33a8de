"""Second step, over all pieces: which documents go as duplicates."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convbert.data_pipeline.atomic import atomic_write
from convbert.data_pipeline.corpus_build.engine import Engine
from convbert.data_pipeline.corpus_build.pieces import TextPiece
from convbert.data_pipeline.corpus_build.tasks import key_of, once
from convbert.data_pipeline.dedup.clusters import (
    edges_of_range,
    forest,
    hash_ranges,
    resolve,
    save_dropped,
)

# About 0.9 GB of memory in a task.
RANGE_ENTRIES = 8_000_000
MERGED_AT_ONCE = 16


@dataclass(frozen=True)
class RangeTask:
    """Band hashes ``[first, last)`` of the pieces that a file lists."""

    pieces: Path
    first: int
    last: int
    folder: Path


@dataclass(frozen=True)
class MergeTask:
    """Edges of several tasks, to be reduced to a forest."""

    parts: tuple[Path, ...]
    folder: Path


@dataclass(frozen=True)
class ResolveTask:
    """The forest of all, from which the survivors follow."""

    pieces: Path
    forest: Path
    folder: Path


def find_duplicates(
    engine: Engine, pieces: Sequence[TextPiece], work: Path, done: Callable[[int], None]
) -> Path:
    """Return the folder of the dropped documents; ``done`` is called with the entries matched."""
    entries = sum(piece.entries for piece in pieces)
    folder = (
        work / "match" / key_of(pieces=[str(piece.folder.relative_to(work)) for piece in pieces])
    )
    folder.mkdir(parents=True, exist_ok=True)
    listed = folder / "pieces.json"
    with atomic_write(listed) as file:
        file.write(json.dumps([str(piece.folder) for piece in pieces]).encode())
    ranges = [
        RangeTask(listed, first, last, folder / f"range-{number:06d}")
        for number, (first, last) in enumerate(hash_ranges(entries, RANGE_ENTRIES))
    ]
    share = entries // len(ranges)
    parts = engine.map(run_range, ranges, lambda _: done(share))
    level = 0
    while len(parts) > 1:
        groups = [parts[i : i + MERGED_AT_ONCE] for i in range(0, len(parts), MERGED_AT_ONCE)]
        tasks = [
            MergeTask(tuple(group), folder / f"merge-{level}-{number:06d}")
            for number, group in enumerate(groups)
        ]
        parts = engine.map(run_merge, tasks, lambda _: None)
        level += 1
    task = ResolveTask(listed, parts[0], folder / "dropped")
    return engine.map(run_resolve, [task], lambda _: None)[0]


def run_range(task: RangeTask) -> Path:
    """Save the edges between documents that share a hash of the range."""

    def make(folder: Path) -> None:
        edges = edges_of_range(enumerate(_folders(task.pieces)), task.first, task.last)
        np.save(folder / "edges.npy", edges)

    once(task.folder, make)
    return task.folder / "edges.npy"


def run_merge(task: MergeTask) -> Path:
    """Save the forest of several files of edges."""
    once(
        task.folder, lambda made: np.save(made / "edges.npy", forest(list(map(_load, task.parts))))
    )
    return task.folder / "edges.npy"


def run_resolve(task: ResolveTask) -> Path:
    """Save which documents go."""

    def make(folder: Path) -> None:
        save_dropped(resolve(_load(task.forest), _folders(task.pieces)), folder)

    once(task.folder, make)
    return task.folder


def _folders(pieces: Path) -> list[Path]:
    return [Path(name) for name in json.loads(pieces.read_bytes())]


def _load(path: Path) -> NDArray[np.uint64]:
    edges: NDArray[np.uint64] = np.load(path)
    return edges
