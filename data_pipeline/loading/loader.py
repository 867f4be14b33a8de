"""Read training batches from shards, in the global order, on any number of processes."""

import queue
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from convbert.data_pipeline.loading.batch import Batch
from convbert.data_pipeline.loading.stream import Stream
from convbert.data_pipeline.shards.damage import DamageLog, OnDamage
from convbert.data_pipeline.shards.manifest import Manifest
from convbert.data_pipeline.shards.sources import CacheSettings, Corpus, Source, open_store
from convbert.data_pipeline.shards.store import Rows, SequenceStore
from convbert.models.errors import UserError

_PREFETCH = 4
_PATIENCE_SECONDS = 5.0

_Item = Batch | BaseException
_Long = NDArray[np.int64]
_Mask = NDArray[np.bool_]


class ShardLoader:
    """Batches of one process: its contiguous slice of every global batch.

    ``manifest`` is a path or URL, or several sources with weights. The positions of global batch
    number s are ``s * global_batch`` and following; the last, incomplete one of an epoch is
    completed from the next epoch, so no sequence is dropped or repeated. Sources are blended by
    position, each in epochs of its own.

    Raises ``UserError`` for shards that are missing, damaged, built by another tokenizer than
    ``tokenizer_digest``, or fewer than one global batch, and for a global batch that does not
    divide among the processes. With ``on_damage="skip"`` damaged blocks are replaced and recorded
    in ``damage``; blocks recorded there stay replaced either way.
    """

    def __init__(
        self,
        manifest: Path | str | Sequence[Source],
        *,
        global_batch: int,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        tokenizer_digest: str | None = None,
        on_damage: OnDamage = "stop",
        damage: DamageLog | None = None,
        cache: CacheSettings | None = None,
        stage: Path | None = None,
    ) -> None:
        if isinstance(manifest, Path | str):
            manifest = [Source(manifest=str(manifest))]
        self.corpus = Corpus(manifest)
        self.corpus.require_batch(global_batch)
        if global_batch % world_size:
            raise UserError(
                f"global_batch={global_batch}: does not divide among {world_size} processes; use a "
                f"multiple of {world_size}"
            )
        if tokenizer_digest not in (None, self.corpus.tokenizer_digest):
            raise UserError(
                f"{self.corpus.name}: was built with another tokenizer "
                f"({self.corpus.tokenizer_digest[:12]} instead of {str(tokenizer_digest)[:12]}); "
                "use that one or rebuild the shards"
            )
        self.global_batch = global_batch
        self.share = global_batch // world_size
        self.rank = rank
        self.streams = [
            Stream(*self._stores(source, found, cache, stage), seed, on_damage, damage)
            for source, found in zip(manifest, self.corpus.manifests, strict=True)
        ]
        self._reading = threading.Lock()
        first = self.corpus.manifests[0]
        self._pad = first.pad_id
        self._derive = _Full(first) if self._packed else _Electra(first)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @staticmethod
    def _stores(
        source: Source, manifest: Manifest, cache: CacheSettings | None, stage: Path | None
    ) -> tuple[SequenceStore, SequenceStore]:
        first, second = (open_store(source.manifest, manifest, cache, stage) for _ in range(2))
        return first, second

    @property
    def _packed(self) -> bool:
        return self.corpus.packing == "full"

    def batch(self, step: int) -> Batch:
        """Return this process's rows of global batch number ``step``."""
        first = step * self.global_batch + self.rank * self.share
        with self._reading:
            rows = self._rows(first, first + self.share)
        return self._batch(rows, np.arange(first, first + self.share))

    def iterate(self, start: int = 0) -> Iterator[Batch]:
        """Yield the batches from ``start`` on, until ``close``, read ahead by a thread."""
        self.close()
        self._stop = threading.Event()
        ready: queue.Queue[_Item] = queue.Queue(_PREFETCH)
        self._thread = threading.Thread(
            target=self._fill, args=(start, ready, self._stop), name="shard-loader", daemon=True
        )
        self._thread.start()
        return _drain(ready, self._stop)

    def close(self) -> None:
        """Stop reading ahead and close the files.

        A request to a server that does not answer can take minutes. It ends with the process.
        """
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(_PATIENCE_SECONDS)
        if thread is None or not thread.is_alive():
            for stream in self.streams:
                stream.close()

    def _fill(self, step: int, ready: "queue.Queue[_Item]", stop: threading.Event) -> None:
        item: _Item | None = None
        while not stop.is_set() and not isinstance(item, BaseException):
            try:
                item = self.batch(step)
            except BaseException as error:  # raised again where the batch is asked for
                item = error
            while not stop.is_set():
                try:
                    ready.put(item, timeout=0.1)
                    break
                except queue.Full:
                    continue
            step += 1

    def _rows(self, first: int, last: int) -> Rows:
        """Return the rows at global positions, each from its source."""
        if len(self.streams) == 1:
            return self.streams[0].rows(first, last)
        source_of, before = self.corpus.blend.split(first, last)
        parts = []
        for number, stream in enumerate(self.streams):
            places = np.flatnonzero(source_of == number)
            if len(places):
                found = stream.rows(before[number], before[number] + len(places))
                parts.append((places, found))
        rows = np.empty((last - first, self.corpus.seq_len), parts[0][1].dtype)
        for places, found in parts:
            rows[places] = found
        return rows

    def _batch(self, rows: Rows, positions: _Long) -> Batch:
        real = rows != self._pad
        types, documents = self._derive(rows, real)
        batch = Batch(
            input_ids=torch.from_numpy(rows.astype(np.int64)),
            token_type_ids=torch.from_numpy(types),
            document_ids=torch.from_numpy(documents),
            positions=torch.from_numpy(positions),
            packed=self._packed,
        )
        return batch.pin() if torch.cuda.is_available() else batch


class _Electra:
    """Types and documents of rows ``[CLS] A [SEP]`` or ``[CLS] A [SEP] B [SEP]``."""

    def __init__(self, manifest: Manifest) -> None:
        self._sep = manifest.sep_id
        # Comparing short integers is several times faster than comparing long ones; these hold
        # every column of the longest row there can be.
        self._columns = np.arange(manifest.seq_len, dtype=np.uint16)

    def __call__(self, rows: Rows, real: _Mask) -> tuple[_Long, _Long]:
        """Return types, 1 after the first [SEP], and documents, 1 at every token."""
        first = (rows == self._sep).argmax(1).astype(np.uint16)
        types = self._columns > first[:, None]
        types &= real
        return types.astype(np.int64), real.astype(np.int64)


class _Full:
    """Types and documents of rows ``[CLS] piece [SEP] [CLS] piece [SEP]``."""

    def __init__(self, manifest: Manifest) -> None:
        self._cls = manifest.cls_id

    def __call__(self, rows: Rows, real: _Mask) -> tuple[_Long, _Long]:
        """Return zeros, and the running number of the [CLS] that opened each document."""
        documents = np.cumsum(rows == self._cls, axis=1, dtype=np.int64)
        documents *= real
        return np.zeros_like(documents), documents


def _drain(ready: "queue.Queue[_Item]", stop: threading.Event) -> Iterator[Batch]:
    try:
        while not stop.is_set():
            try:
                item = ready.get(timeout=0.1)
            except queue.Empty:
                continue
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
