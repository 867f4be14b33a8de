"""What a corpus holds: shares of languages and sources, kept samples, the largest clusters."""

import heapq
import re
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from convbert.data_pipeline.corpus_build.pieces import TextPiece, read_piece
from convbert.data_pipeline.dedup.clusters import DROPPED
from convbert.data_pipeline.documents import EXCERPT_CHARACTERS, Document, Sample

MOST_SOURCES = 1000  # listed in a report; a crawl has tens of thousands
OTHERS = "others"
_PART = re.compile(r"@\d+$")  # a part of a large file is its source and where it begins
_ROW_BITS, _ROW_MASK = 32, (1 << 32) - 1


class Share(BaseModel):
    """How much of the corpus is of one language or source."""

    model_config = ConfigDict(extra="forbid")

    documents: int = 0
    characters: int = 0
    tokens: int = 0

    def add(self, other: "Share") -> None:
        """Count another share in."""
        self.documents += other.documents
        self.characters += other.characters
        self.tokens += other.tokens


Shares = dict[str, Share]


class Cluster(BaseModel):
    """Documents that count as copies of each other: the one that stays, and one that goes."""

    model_config = ConfigDict(extra="forbid")

    documents: int = Field(description="of the cluster, with the one that stays")
    exact: int = Field(description="of those that go: with the words of another")
    kept: Sample
    dropped: Sample


class Contents(BaseModel):
    """What packing saw of the documents that stay."""

    model_config = ConfigDict(extra="forbid")

    languages: Shares = Field({}, description='by language; "" where no filter told it')
    sources: Shares = Field({}, description="by file")
    samples: list[Sample] = Field([], description="documents kept, by the digest of their id")

    def count(self, documents: Sequence[Document], tokens: Sequence[int], limit: int) -> None:
        """Count documents, and hold those with the smallest keys as samples."""
        groups: dict[tuple[str, str], list[int]] = {}  # nearly always one, or a few
        for document, number in zip(documents, tokens, strict=True):
            sums = groups.setdefault((document.language, document.source), [0, 0, 0])
            sums[0] += 1
            sums[1] += len(document.text)
            sums[2] += number
        for (language, source), (total, characters, size) in groups.items():
            share = Share(documents=total, characters=characters, tokens=size)
            for shares, name in ((self.languages, language), (self.sources, _PART.sub("", source))):
                shares.setdefault(name, Share()).add(share)
        full = len(self.samples) >= limit
        last = max((s.key for s in self.samples), default="") if full else "g"  # behind all digits
        new = [
            _sample(document, key, f"{number:,} tokens")
            for document, number in zip(documents, tokens, strict=True)
            if (key := _key(document.id)) < last
        ]
        self.samples = _smallest([*self.samples, *new], limit)

    @classmethod
    def merged(cls, parts: Iterable["Contents"], limit: int) -> "Contents":
        """Return the contents of all parts; the smallest of many sources are one entry."""
        languages: Shares = {}
        sources: Shares = {}
        samples: list[Sample] = []
        for part in parts:
            for shares, added in ((languages, part.languages), (sources, part.sources)):
                for name, share in added.items():
                    shares.setdefault(name, Share()).add(share)
            samples = _smallest([*samples, *part.samples], limit)
        return cls(languages=_ordered(languages), sources=_ordered(sources), samples=samples)


def _ordered(shares: Shares) -> Shares:
    """Return shares, the largest first, the last of too many added up."""
    order = sorted(shares, key=lambda name: (-shares[name].tokens, name))
    found = {name: shares[name] for name in order[:MOST_SOURCES]}
    rest = Share()
    for name in order[MOST_SOURCES:]:
        rest.add(shares[name])
    return {**found, f"{len(order) - MOST_SOURCES} {OTHERS}": rest} if rest.documents else found


def _smallest(samples: Iterable[Sample], limit: int) -> list[Sample]:
    return heapq.nsmallest(limit, samples, key=lambda sample: (sample.key, sample.id))


def _key(name: str) -> str:
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _sample(document: Document, key: str, detail: str) -> Sample:
    excerpt = document.text[:EXCERPT_CHARACTERS]
    return Sample(key=key, id=document.id, detail=detail, excerpt=excerpt)


def largest_clusters(dropped: Path, pieces: Sequence[TextPiece], count: int) -> list[Cluster]:
    """Return the clusters with most documents, beside each survivor a near duplicate if any."""
    field: dict[str, Any] = {
        name: np.load(dropped / f"{name}.npy", mmap_mode="r") for name in DROPPED.names or ()
    }
    survivors, sizes = np.unique(field["survivor"], return_counts=True)
    largest = np.lexsort((survivors, -sizes))[:count]
    chosen = []
    for survivor, size in zip(survivors[largest].tolist(), sizes[largest].tolist(), strict=True):
        members = np.flatnonzero(field["survivor"] == survivor)
        exact = field["exact"][members]
        shown = members[int(np.argmin(exact))]  # the first that is not exact, else the first
        chosen.append((survivor, size + 1, int(exact.sum()), int(field["document"][shown])))
    found = documents_of([number for entry in chosen for number in (entry[0], entry[3])], pieces)
    return [
        Cluster(
            documents=size,
            exact=exact,
            kept=Sample.of(found[survivor]),
            dropped=Sample.of(found[other]),
        )
        for survivor, size, exact, other in chosen
    ]


def documents_of(numbers: Iterable[int], pieces: Sequence[TextPiece]) -> dict[int, Document]:
    """Read documents by their numbers in the corpus, (piece << 32) | row."""
    wanted: dict[int, set[int]] = {}
    for number in numbers:
        wanted.setdefault(number >> _ROW_BITS, set()).add(number & _ROW_MASK)
    return {
        piece << _ROW_BITS | row: document
        for piece, rows in wanted.items()
        for row, document in read_piece(pieces[piece].folder, rows)
    }
