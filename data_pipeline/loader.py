"""Read training batches from shards, in the global order, on any number of processes."""

import io
import mmap
import queue
import threading
import zlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convbert.data_pipeline.batch import Batch
from convbert.data_pipeline.manifest import (
    Manifest,
    Member,
    ShardIndex,
    load_index,
    manifest_path,
)
from convbert.data_pipeline.order import GlobalOrder, Piece
from convbert.models.errors import UserError

Rows = NDArray[np.unsignedinteger]

_PREFETCH = 4
_WINDOWS = 2


class _Shard:
    """A mapped tar and its index; every member's CRC is checked when it is first read."""

    def __init__(self, path: Path, index: ShardIndex) -> None:
        self.path = path
        self.members = index.members
        self.starts = [0]
        for member in index.members:
            self.starts.append(self.starts[-1] + member.sequences)
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (FileNotFoundError, ValueError):
            raise UserError(
                f"{path}: missing or empty; copy the shard again or rebuild the shards"
            ) from None
        self._arrays: dict[int, Rows] = {}

    def rows(self, first: int, last: int) -> Iterator[Rows]:
        """Yield the sequences ``first`` to ``last`` of this shard, a view per member."""
        number = bisect_right(self.starts, first) - 1
        while first < last:
            start = self.starts[number]
            stop = min(last, self.starts[number + 1])
            yield self._array(number)[first - start : stop - start]
            first, number = stop, number + 1

    def _array(self, number: int) -> Rows:
        if number not in self._arrays:
            self._arrays[number] = self._read(self.members[number])
        return self._arrays[number]

    def _read(self, member: Member) -> Rows:
        view = memoryview(self._map)[member.offset : member.offset + member.size]
        if len(view) != member.size or zlib.crc32(view) != member.crc32:
            raise UserError(
                f"{self.path}: member {member.name} is damaged (its CRC-32 differs from the "
                "index's); copy the shard again or rebuild the shards"
            )
        header = io.BytesIO(bytes(view[:128]))
        np.lib.format.read_magic(header)
        shape, _, dtype = np.lib.format.read_array_header_1_0(header)
        return np.frombuffer(view, dtype, offset=header.tell()).reshape(shape)


class ShardLoader:
    """Batches of one process: its contiguous slice of every global batch.

    The positions of global batch number s are ``s * global_batch`` and following; the last,
    incomplete one of an epoch is completed from the next epoch, so no sequence is dropped or
    repeated. Raises ``UserError`` for shards that are missing, damaged, built by another
    tokenizer than ``tokenizer_digest``, or fewer than one global batch.
    """

    def __init__(
        self,
        manifest: Path,
        *,
        global_batch: int,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        tokenizer_digest: str | None = None,
    ) -> None:
        path = manifest_path(Path(manifest))
        self.manifest = Manifest.load(path)
        self.folder = path.parent
        size = self.manifest.num_sequences
        if size < global_batch:
            raise UserError(
                f"{path}: {size} sequences are fewer than one global batch ({global_batch}); add "
                "text or lower global_batch"
            )
        if tokenizer_digest not in (None, self.manifest.tokenizer_digest):
            raise UserError(
                f"{path}: was built with another tokenizer ({self.manifest.tokenizer_digest[:12]} "
                f"instead of {str(tokenizer_digest)[:12]}); use that one or rebuild the shards"
            )
        self.global_batch = global_batch
        self.share = global_batch // world_size
        self.rank = rank
        self.order = GlobalOrder(self.manifest.digest, seed, size)
        self._starts = np.cumsum([0, *(s.sequences for s in self.manifest.shards)])
        self._shards: dict[int, _Shard] = {}
        self._windows: OrderedDict[tuple[int, int], Rows] = OrderedDict()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def batch(self, step: int) -> Batch:
        """Return this process's rows of global batch number ``step``."""
        first = step * self.global_batch + self.rank * self.share
        positions = np.arange(first, first + self.share, dtype=np.int64)
        rows = np.concatenate([self._select(p) for p in self.order.pieces(positions)])
        return self._to_batch(rows, positions)

    def iterate(self, start: int = 0) -> Iterator[Batch]:
        """Yield the batches from ``start`` on, without end, read ahead by a thread."""
        self.close()
        self._stop = threading.Event()
        ready: queue.Queue[Batch | BaseException] = queue.Queue(_PREFETCH)
        self._thread = threading.Thread(
            target=self._fill, args=(start, ready, self._stop), name="shard-loader", daemon=True
        )
        self._thread.start()
        return _drain(ready)

    def close(self) -> None:
        """Stop reading ahead."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _fill(
        self, step: int, ready: "queue.Queue[Batch | BaseException]", stop: threading.Event
    ) -> None:
        while not stop.is_set():
            item: Batch | BaseException
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
            if isinstance(item, BaseException):
                return
            step += 1

    def _select(self, piece: Piece) -> Rows:
        key = (piece.epoch, piece.window)
        if key not in self._windows:
            if len(self._windows) >= _WINDOWS:
                self._windows.popitem(last=False)
            spans = self.order.spans(piece.epoch, piece.window)
            self._windows[key] = np.concatenate([r for s in spans for r in self._span(*s)])
        return self._windows[key][piece.rows]

    def _span(self, first: int, last: int) -> Iterator[Rows]:
        number = int(np.searchsorted(self._starts, first, side="right")) - 1
        while first < last:
            start, stop = int(self._starts[number]), min(last, int(self._starts[number + 1]))
            yield from self._shard(number).rows(first - start, stop - start)
            first, number = stop, number + 1

    def _shard(self, number: int) -> _Shard:
        if number not in self._shards:
            shard = self.manifest.shards[number]
            index = load_index(self.folder, shard)
            self._shards[number] = _Shard(self.folder / shard.name, index)
        return self._shards[number]

    def _to_batch(self, rows: Rows, positions: NDArray[np.int64]) -> Batch:
        ids = torch.from_numpy(rows.astype(np.int64))
        real = ids != self.manifest.pad_id
        packed = self.manifest.packing == "full"
        documents = _documents(ids, real, self.manifest.cls_id) if packed else real.long()
        types = torch.zeros_like(ids) if packed else _segments(ids, real, self.manifest.sep_id)
        batch = Batch(ids, types, documents, real.sum(1), torch.from_numpy(positions), packed)
        return batch.pin() if torch.cuda.is_available() else batch


def _segments(ids: Tensor, real: Tensor, sep_id: int) -> Tensor:
    """Return token types: 0 up to and including the first [SEP], then 1; 0 at padding."""
    separators = ids == sep_id
    before = separators.cumsum(1) - separators.long()
    return ((before > 0) & real).long()


def _documents(ids: Tensor, real: Tensor, cls_id: int) -> Tensor:
    """Return the running number of the [CLS] that opened each token's document, 0 at padding."""
    return (ids == cls_id).cumsum(1) * real


def _drain(ready: "queue.Queue[Batch | BaseException]") -> Iterator[Batch]:
    while True:
        item = ready.get()
        if isinstance(item, BaseException):
            raise item
        yield item
