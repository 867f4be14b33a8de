"""Pure-Python reader of TensorFlow checkpoints, the files PREFIX.index and PREFIX.data-*.

The index is a table of names to protocol-buffer records that say where in the data files a tensor
lies (TensorFlow, tensor_bundle.proto). Nothing in a checkpoint is executed.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from convbert.models.errors import AbsentError, DamagedError, UserError
from convbert.models.interop.sstable import masked_crc32c, read_table, read_varint

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
# Wire types of protocol buffers.
_VARINT, _BYTES, _FIXED32 = 0, 2, 5


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
            raise AbsentError(
                f"{self.path}: no such checkpoint index: give the path of a TensorFlow "
                "checkpoint without its suffix, such as DIR/model.ckpt-1000000"
            )
        try:
            records = dict(read_table(self.path))
            # BundleHeaderProto: field 1 is the number of data files, field 2 the byte order.
            header = dict(_read_message(records.pop(_HEADER_KEY)))
            self._num_shards = int(header[1])
            self.entries: dict[str, TensorEntry] = {
                key.decode(): _parse_entry(record)
                for key, record in records.items()
                if not key.startswith(_SLICE_KEY)
            }
        except UserError:
            raise
        except (IndexError, KeyError, ValueError, TypeError, struct.error) as error:
            raise DamagedError(
                f"{self.path}: damaged checkpoint index ({error}): copy it from its source again"
            ) from error
        if header.get(2) == _BIG_ENDIAN:
            raise UserError(
                f"{self.path}: written on a big-endian machine: save it again on another one"
            )

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
            raise AbsentError(f"{self.path}: no tensor named {name!r} in this checkpoint")
        entry = self.entries[name]
        path = self._data_file(entry)
        if entry.dtype not in _DTYPES or entry.sliced:
            what = "is partitioned" if entry.sliced else f"has TensorFlow type {entry.dtype}"
            raise UserError(f"{self.path}: tensor {name!r} {what}, which no model weight is here")
        dtype = _DTYPES[entry.dtype]
        if entry.size != math.prod(entry.shape) * dtype.itemsize:
            raise DamagedError(
                f"{self.path}: tensor {name!r} of shape {entry.shape} cannot have "
                f"{entry.size} bytes: the index is damaged, copy it from its source again"
            )
        content = self._content(path, entry)
        if len(content) != entry.size or masked_crc32c(content) != entry.checksum:
            what = "fails its checksum" if len(content) == entry.size else "is cut short"
            raise DamagedError(
                f"{path}: damaged checkpoint, tensor {name!r} {what}: copy it from its source again"
            )
        if not content:
            return torch.empty(entry.shape, dtype=dtype)
        return torch.frombuffer(content, dtype=dtype).reshape(entry.shape)

    def _data_file(self, entry: TensorEntry) -> Path:
        shards = f"{entry.shard:05d}-of-{self._num_shards:05d}"
        return self.prefix.with_name(f"{self.prefix.name}.data-{shards}")

    @staticmethod
    def _content(path: Path, entry: TensorEntry) -> bytearray:
        try:
            with path.open("rb") as file:
                file.seek(entry.offset)
                return bytearray(file.read(entry.size))
        except FileNotFoundError as error:
            raise AbsentError(
                f"{path}: the data file of this checkpoint is missing: put it beside the index"
            ) from error


def _read_message(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield field number and value of each field of a protocol-buffer message.

    Raises ``IndexError`` when the message ends inside an integer, ``ValueError`` when a field runs
    past the end or has a wire type that these messages do not use.
    """
    at = 0
    while at < len(data):
        key, at = read_varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = read_varint(data, at)
            yield number, value
            continue
        if wire == _BYTES:
            size, at = read_varint(data, at)
        elif wire == _FIXED32:
            size = 4
        else:
            raise ValueError(f"field {number} has the unknown wire type {wire}")
        field = data[at : at + size]
        if len(field) != size:
            raise ValueError(f"field {number} runs past the end of its message")
        at += size
        yield number, field if wire == _BYTES else int.from_bytes(field, "little")


def _parse_entry(record: bytes) -> TensorEntry:
    fields = dict(_read_message(record))
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
    dimensions = (bytes(value) for number, value in _read_message(message) if number == 2)
    return tuple(int(dict(_read_message(dimension)).get(1, 0)) for dimension in dimensions)
