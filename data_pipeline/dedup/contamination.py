"""Documents that share a run of words with an evaluation set.

Every text of an evaluation file counts: all strings of JSON, all cells of a table, all lines of
other text. A text shorter than the run cannot be told from a common phrase and is left out.
"""

import csv
import gzip
import json
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from convbert.data_pipeline.dedup.words import HashedWords, Hashes, hash_words, words
from convbert.data_pipeline.documents import shown
from convbert.models.errors import UserError

_BATCH_CHARACTERS = 1 << 19


@dataclass(frozen=True)
class Match:
    """The run of words found in a document, and the evaluation file that holds it."""

    ngram: str
    file: str


class EvaluationIndex:
    """The word runs of evaluation files: hashes [n], sorted, and the file of each."""

    def __init__(self, hashes: Hashes, files: NDArray[np.uint32], names: Sequence[str]) -> None:
        self._hashes = hashes
        # Nearly all runs of a document are found to be in none by one look at this.
        self._shift = np.uint64(64 - min(27, len(hashes).bit_length() + 4))
        self._known = np.zeros(1 << (64 - int(self._shift)), bool)
        self._known[hashes >> self._shift] = True
        self._files = files
        self._names = names

    @classmethod
    def of(cls, paths: Sequence[Path], size: int) -> "EvaluationIndex":
        """Read evaluation files; a run in several of them belongs to the first.

        Raises ``UserError`` for a file that cannot be read or has no text of ``size`` words.
        """
        found = []
        for number, path in enumerate(paths):
            hashes = _runs(path, size)
            if not len(hashes):
                raise UserError(f"{path}: no text of {size} words or more; check it or lower ngram")
            found.append((hashes, np.full(len(hashes), number, np.uint32)))
        hashes = np.concatenate([np.empty(0, np.uint64), *(h for h, _ in found)])
        files = np.concatenate([np.empty(0, np.uint32), *(f for _, f in found)])
        unique, first = np.unique(hashes, return_index=True)
        return cls(unique, files[first], [shown(str(path)) for path in paths])

    def save(self, folder: Path) -> None:
        """Write the index to a folder."""
        np.save(folder / "runs.npy", self._hashes)
        np.save(folder / "files.npy", self._files)
        (folder / "names.json").write_bytes(json.dumps(list(self._names)).encode())

    @classmethod
    def load(cls, folder: Path) -> "EvaluationIndex":
        """Open a saved index; workers on one machine share its memory."""
        runs, files = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("runs", "files"))
        return cls(runs, files, json.loads((folder / "names.json").read_bytes()))

    def matches(self, texts: Sequence[str], hashed: HashedWords, size: int) -> dict[int, Match]:
        """Return the first match of each document of a batch that has one."""
        found: dict[int, Match] = {}
        if not len(self._hashes):
            return found
        counts = np.diff(hashed.offsets)
        runs = hashed.ngrams(size)
        likely = np.flatnonzero(self._known[runs.hashes >> self._shift])
        places = np.searchsorted(self._hashes, runs.hashes[likely])
        places[places == len(self._hashes)] = 0
        equal = self._hashes[places] == runs.hashes[likely]
        for run, place in zip(likely[equal], places[equal], strict=True):
            document = int(np.searchsorted(runs.offsets, run, side="right")) - 1
            if document not in found and counts[document] >= size:
                start = int(run - runs.offsets[document])
                ngram = " ".join(words(texts[document])[start : start + size])
                found[document] = Match(ngram, self._names[int(self._files[place])])
        return found


def _runs(path: Path, size: int) -> Hashes:
    """Return the distinct hashes of all runs of ``size`` words of an evaluation file."""
    parts = [np.empty(0, np.uint64)]
    for texts in _batches(_texts(path)):
        hashed = hash_words(texts)
        runs = hashed.ngrams(size)
        long = np.repeat(np.diff(hashed.offsets) >= size, np.diff(runs.offsets))
        parts.append(np.unique(runs.hashes[long]))
    return np.unique(np.concatenate(parts))


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    yield batch


def _texts(path: Path) -> Iterator[str]:
    """Yield every text of an evaluation file."""
    name = PurePath(path.name.lower())
    packed = name.suffix == ".gz"
    suffix = Path(name.stem).suffix if packed else name.suffix
    opener = gzip.open if packed else open
    try:
        with cast("IO[str]", opener(path, "rt", encoding="utf-8-sig", newline="")) as file:
            if suffix == ".json":
                yield from _strings(json.load(file))
            elif suffix in (".jsonl", ".ndjson", ".jsonlines"):
                for line in file:
                    yield from _strings(json.loads(line)) if line.strip() else ()
            elif suffix in (".csv", ".tsv"):
                csv.field_size_limit(sys.maxsize)
                rows = (
                    csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
                    if suffix == ".tsv"
                    else csv.reader(file)
                )
                for row in rows:
                    yield from row
            else:
                yield from file
    except (OSError, EOFError, ValueError, RecursionError, csv.Error, zlib.error) as error:
        raise UserError(
            f"{path}: evaluation file cannot be read ({error}); give JSON, JSON lines, CSV, TSV or "
            "plain text in UTF-8, also as .gz"
        ) from None


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)
