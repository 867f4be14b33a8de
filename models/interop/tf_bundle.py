"""Pure-Python reader of TensorFlow checkpoints, the files PREFIX.index and PREFIX.data-*.

The index is a table of names to protocol-buffer records that say where in the data files a tensor
lies (TensorFlow, tensor_bundle.proto). Nothing in a checkpoint is executed.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from convbert.models.errors import UserError
from convbert.models.interop.crc32c import masked_crc32c
from convbert.models.interop.sstable import read_table
from convbert.models.interop.varint import read_message

# TensorFlow's DataType numbers (types.proto) that a weight can have.
_DTYPES = {
    1: torch.float32,
    2: torch.float64,
    3: torch.int32,
    9: torch.int64,
    14: torch.bfloat16,
    19: torch.float16,
}
_HEADER_KEY = b""
# The slices of a partitioned tensor have encoded names that begin with a zero byte.
_SLICE_KEY = b"\0"
_BIG_ENDIAN = 1
_T = TypeVar("_T")


@dataclass(frozen=True)
class _Header:
    """BundleHeaderProto."""

    num_shards: int = 0
    endianness: int = 0


@dataclass(frozen=True)
class TensorEntry:
    """BundleEntryProto: ``size`` bytes from ``offset`` in data file ``shard``."""

    dtype: int = 0
    shape: tuple[int, ...] = ()
    shard: int = 0
    offset: int = 0
    size: int = 0
    checksum: int = 0
    sliced: bool = False


class TensorBundle:
    """The tensors of one checkpoint, read one at a time.

    ``prefix`` is the path without ``.index``. Raises ``UserError`` naming the file when the
    index is missing or damaged.
    """

    def __init__(self, prefix: str | Path) -> None:
        self.prefix = Path(prefix)
        self.path = self.prefix.with_name(self.prefix.name + ".index")
        if not self.path.is_file():
            raise UserError(
                f"{self.path}: no such checkpoint index: give the path of a TensorFlow "
                "checkpoint without its suffix, such as DIR/model.ckpt-1000000"
            )
        records = dict(self._undamaged(lambda: list(read_table(self.path.read_bytes()))))
        self._header = self._undamaged(lambda: _parse_header(records.pop(_HEADER_KEY)))
        if self._header.endianness == _BIG_ENDIAN:
            raise UserError(
                f"{self.path}: written on a big-endian machine: save it again on another one"
            )
        self.entries: dict[str, TensorEntry] = self._undamaged(
            lambda: {
                key.decode(): _parse_entry(record)
                for key, record in records.items()
                if not key.startswith(_SLICE_KEY)
            }
        )

    def _undamaged(self, parse: Callable[[], _T]) -> _T:
        try:
            return parse()
        except (IndexError, KeyError, ValueError, TypeError, struct.error) as error:
            raise UserError(
                f"{self.path}: damaged checkpoint index ({error}): copy it from its source again"
            ) from error

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def read(self, name: str) -> Tensor:
        """Return the tensor ``name`` after checking its checksum.

        Raises ``UserError`` naming tensor and file when the tensor is absent, of an unusable
        type, cut short or altered.
        """
        if name not in self.entries:
            raise UserError(f"{self.path}: no tensor named {name!r} in this checkpoint")
        entry = self.entries[name]
        path = self._data_file(entry)
        if entry.dtype not in _DTYPES or entry.sliced:
            what = "is partitioned" if entry.sliced else f"has TensorFlow type {entry.dtype}"
            raise UserError(f"{self.path}: tensor {name!r} {what}, which no model weight is here")
        dtype = _DTYPES[entry.dtype]
        if entry.size != math.prod(entry.shape) * dtype.itemsize:
            raise UserError(
                f"{self.path}: tensor {name!r} of shape {entry.shape} cannot have "
                f"{entry.size} bytes: the index is damaged, copy it from its source again"
            )
        content = self._content(path, entry)
        if len(content) != entry.size or masked_crc32c(content) != entry.checksum:
            what = "fails its checksum" if len(content) == entry.size else "is cut short"
            raise UserError(
                f"{path}: damaged checkpoint, tensor {name!r} {what}: copy it from its source again"
            )
        if not content:
            return torch.empty(entry.shape, dtype=dtype)
        return torch.frombuffer(content, dtype=dtype).reshape(entry.shape)

    def _data_file(self, entry: TensorEntry) -> Path:
        shards = f"{entry.shard:05d}-of-{self._header.num_shards:05d}"
        return self.prefix.with_name(f"{self.prefix.name}.data-{shards}")

    @staticmethod
    def _content(path: Path, entry: TensorEntry) -> bytearray:
        try:
            with path.open("rb") as file:
                file.seek(entry.offset)
                return bytearray(file.read(entry.size))
        except FileNotFoundError as error:
            raise UserError(
                f"{path}: the data file of this checkpoint is missing: put it beside the index"
            ) from error


def _parse_header(record: bytes) -> _Header:
    fields = dict(read_message(record))
    return _Header(num_shards=int(fields[1]), endianness=int(fields.get(2, 0)))


def _parse_entry(record: bytes) -> TensorEntry:
    fields = dict(read_message(record))
    return TensorEntry(
        dtype=int(fields.get(1, 0)),
        shape=_parse_shape(bytes(fields.get(2, b""))),
        shard=int(fields.get(3, 0)),
        offset=int(fields.get(4, 0)),
        size=int(fields.get(5, 0)),
        checksum=int(fields.get(6, 0)),
        sliced=7 in fields,
    )


def _parse_shape(message: bytes) -> tuple[int, ...]:
    """Return the sizes of a TensorShapeProto, whose field 2 repeats one message a dimension."""
    dimensions = (bytes(value) for number, value in read_message(message) if number == 2)
    return tuple(int(dict(read_message(dimension)).get(1, 0)) for dimension in dimensions)
