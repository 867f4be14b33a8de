"""What deduplication needs to know of documents, small enough to be moved between machines.

A *piece* is a bounded run of documents of the corpus, in one folder. Beside the text it holds
``keys.npy`` with one entry per document, and the band hashes of all its documents: ``hashes.npy``,
sorted, so that a task can read any range without the rest, and ``rows.npy``, the document of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import rensa
from numpy.typing import NDArray

from convbert.data_pipeline.dedup.dedup_settings import DedupConfig
from convbert.data_pipeline.dedup.words import HashedWords, Hashes
from convbert.data_pipeline.segmentation import SEGMENTATION

# Of the raw text, in whose order the survivor of a cluster is chosen, and of its words.
KEY = np.dtype([("text", "<u8"), ("words", "<u8")])
BAND = np.dtype([("hash", "<u8"), ("row", "<u4")])
KEYS, HASHES, ROWS = "keys.npy", "hashes.npy", "rows.npy"
ALGORITHM = f"rensa {rensa.RMinHash.ALGORITHM_VERSION}, {SEGMENTATION}"

Keys = NDArray[np.void]
Bands = NDArray[np.void]


def document_keys(texts: Sequence[str], hashed: HashedWords) -> Keys:
    """Return one ``KEY`` per document. Documents without any word are told apart by their text."""
    keys = np.empty(len(texts), KEY)
    keys["text"] = [_digest(text.encode("utf-8", "surrogatepass")) for text in texts]
    content, offsets = hashed.hashes.tobytes(), (hashed.offsets * 8).tolist()
    keys["words"] = [
        _digest(content[start:stop]) if stop > start else text
        for start, stop, text in zip(offsets[:-1], offsets[1:], keys["text"].tolist(), strict=True)
    ]
    return keys


def _digest(content: bytes) -> int:
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little")


def document_bands(keys: Keys, hashed: HashedWords, config: DedupConfig, first: int) -> Bands:
    """Return the band entries of a batch whose first document is row ``first`` of its piece.

    Band 0 is the digest of the words: equal documents meet there. With ``near`` the MinHash bands
    follow. Documents without words have band 0 only.
    """
    entries = _entries(keys["words"], np.arange(len(keys)), first)
    if config.mode != "near":
        return entries
    shingles = hashed.ngrams(config.ngram)
    rows = np.flatnonzero(np.diff(shingles.offsets))
    if not len(rows):
        return entries
    signatures = _signatures(shingles, rows, config)
    grouped = signatures.reshape(len(rows), config.bands, config.rows)
    bands = _band_hashes(grouped)
    near = _entries(bands.ravel(), np.repeat(rows, config.bands), first)
    return np.concatenate([entries, near])


def _entries(hashes: Hashes, rows: NDArray[np.integer], first: int) -> Bands:
    entries = np.empty(len(hashes), BAND)
    entries["hash"] = hashes
    entries["row"] = rows + first
    return entries


def _signatures(
    shingles: HashedWords, rows: NDArray[np.int64], config: DedupConfig
) -> NDArray[np.uint32]:
    """MinHash signatures [documents with words, bands * rows]."""
    offsets = np.append(shingles.offsets[rows], shingles.offsets[-1]).astype(np.uint64)
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
        shingles.hashes, offsets, config.bands * config.rows, config.seed
    )
    return np.array(matrix.to_rows(), np.uint32)


def _band_hashes(grouped: NDArray[np.uint32]) -> Hashes:
    """Hash the rows of each band [n, bands, rows] with the number of the band: [n, bands]."""
    bands = grouped.shape[1]
    hashes = np.tile(np.arange(1, bands + 1, dtype=np.uint64), (len(grouped), 1))
    for row in range(grouped.shape[2]):
        hashes ^= grouped[:, :, row]
        hashes *= np.uint64(0xFF51AFD7ED558CCD)
        hashes ^= hashes >> np.uint64(32)
    return hashes


@dataclass
class PieceRecords:
    """Collects keys and band entries of a piece, batch by batch."""

    config: DedupConfig

    def __post_init__(self) -> None:
        self._keys: list[Keys] = []
        self._bands: list[Bands] = []
        self._count = 0

    def add(self, texts: Sequence[str], hashed: HashedWords) -> None:
        """Take the next documents of the piece."""
        keys = document_keys(texts, hashed)
        if self.config.mode != "off":
            self._bands.append(document_bands(keys, hashed, self.config, self._count))
        self._keys.append(keys)
        self._count += len(keys)

    def save(self, folder: Path) -> int:
        """Write the three files into the folder of the piece; return the number of entries."""
        np.save(folder / KEYS, np.concatenate([np.empty(0, KEY), *self._keys]))
        bands = np.concatenate([np.empty(0, BAND), *self._bands])
        order = np.lexsort((bands["row"], bands["hash"]))
        np.save(folder / HASHES, bands["hash"][order])
        np.save(folder / ROWS, bands["row"][order])
        return len(bands)
