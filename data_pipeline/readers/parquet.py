"""Parquet files: a document per row, read by pyarrow in batches of rows."""

import errno
import io
import tempfile
from collections.abc import Iterator
from functools import partial
from shutil import copyfileobj
from typing import IO, Any

from convbert.data_pipeline.documents import Document
from convbert.data_pipeline.extras import load_extra
from convbert.data_pipeline.readers.fields import require_columns, to_document
from convbert.data_pipeline.readers.inputs import Part
from convbert.data_pipeline.readers.lines import decode
from convbert.data_pipeline.readers.options import ReaderOptions
from convbert.data_pipeline.readers.records import Place, Record
from convbert.models.errors import DamagedError, UserError

BATCH_ROWS = 256
# Rows are read so many at a time that about this much of the wanted columns is held.
_BATCH_BYTES = 8 << 20
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def read_parquet(
    stream: io.BufferedReader, name: str, options: ReaderOptions, part: Part | None = None
) -> Iterator[Record]:
    """Yield records whose position is their row, from 1; only the needed columns are read.

    ``part`` are the row groups that are wanted. The footer is at the end, so a compressed file is
    unpacked to a temporary one first.
    """
    options = options.model_copy(update={"encoding": "utf-8"})  # what the format prescribes
    arrow = load_extra("pyarrow", "corpus", f"{name}: reading parquet")
    parquet = load_extra("pyarrow.parquet", "corpus", f"{name}: reading parquet")
    with tempfile.TemporaryFile() as unpacked:
        try:
            file = parquet.ParquetFile(_seekable(stream, name, unpacked))
            yield from _rows(file, name, options, part)
        except (arrow.ArrowException, UnicodeDecodeError) as error:
            reason = str(error).splitlines()[0]
            raise DamagedError(
                f"{name}: damaged or not parquet ({reason}); fetch it again"
            ) from None


def _seekable(stream: io.BufferedReader, name: str, unpacked: IO[bytes]) -> IO[bytes]:
    if stream.seekable():
        return stream
    try:
        copyfileobj(stream, unpacked, 1 << 20)
        unpacked.seek(0)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise UserError(
            f"{name}: cannot be unpacked in {tempfile.gettempdir()} ({error.strerror}); set TMPDIR "
            "to a larger disk, or leave parquet files as they are: they are compressed inside"
        ) from None
    return unpacked


def _rows(file: Any, name: str, options: ReaderOptions, part: Part | None) -> Iterator[Record]:
    present = file.schema_arrow.names
    require_columns(present, name, options)
    keys = (options.field, options.id_field, *options.meta_fields)
    columns = [key for key in keys if key is not None and key in present]
    groups = range(part.first, part.last) if part else range(file.num_row_groups)
    plain = columns == [options.field]  # ids and further fields may hold more than text
    row = sum(file.metadata.row_group(number).num_rows for number in range(groups.start))
    for group in groups:
        size = _batch_rows(file.metadata.row_group(group))
        # Asked for all groups at once, pyarrow holds on to what it read of each.
        for batch in file.iter_batches(size, row_groups=[group], columns=columns):
            for number, values in enumerate(_values(batch)):
                row += 1
                place = Place(name, "row", row)
                text = values[options.field] if values else None
                if isinstance(text, str):
                    yield Record(place, text, partial(to_document, values, place, options), plain)
                else:
                    read = partial(_document, batch, number, values, place, options)
                    yield Record(place, text if isinstance(text, bytes) else str(text), read)


def _batch_rows(group: Any) -> int:
    """Return how many rows to read at a time, by what all columns take unpacked.

    Of the columns one by one pyarrow cannot be asked: it ends the process if they are damaged.
    """
    size = max(1, group.total_byte_size)
    return max(1, min(BATCH_ROWS, _BATCH_BYTES * group.num_rows // size))


def _values(batch: Any) -> list[dict[str, Any] | None]:
    """Return the rows of a batch; None for each if one of them cannot be converted."""
    try:
        rows: list[dict[str, Any] | None] = batch.to_pylist()
    except (ValueError, OverflowError):  # bytes that are no UTF-8, dates beyond the year 9999
        rows = [None] * batch.num_rows
    return rows


def _document(
    batch: Any,
    number: int,
    values: dict[str, Any] | None,
    place: Place,
    options: ReaderOptions,
) -> Document:
    if values is None:
        columns = zip(batch.schema.names, batch.columns, strict=True)
        values = {key: _value(column[number], place, options) for key, column in columns}
    text = values[options.field]
    if isinstance(text, bytes):  # some writers do not say that a column is text
        values = {**values, options.field: decode(text, place, options)}
    return to_document(values, place, options)


def _value(scalar: Any, place: Place, options: ReaderOptions) -> Any:
    """Convert one value; a text that is no UTF-8 is met by ``invalid``."""
    inner = getattr(scalar, "value", scalar) if scalar.is_valid else scalar
    if inner.is_valid and hasattr(inner, "as_buffer"):
        return decode(inner.as_buffer().to_pybytes(), place, options)
    return scalar.as_py()
