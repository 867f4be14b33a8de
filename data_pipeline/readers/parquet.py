"""Parquet files: a document per row, read by pyarrow in batches of rows."""

import io
import tempfile
from collections.abc import Iterator
from shutil import copyfileobj
from typing import IO, Any

from convbert.data_pipeline.documents import Document
from convbert.data_pipeline.extras import load_extra
from convbert.data_pipeline.readers.inputs import Part
from convbert.data_pipeline.readers.options import ReaderOptions
from convbert.data_pipeline.readers.records import to_document
from convbert.models.errors import DamagedError, UserError

BATCH_ROWS = 256


def read_parquet(
    stream: io.BufferedReader, name: str, options: ReaderOptions, part: Part | None = None
) -> Iterator[Document]:
    """Yield documents whose position is their row, from 1; only the needed columns are read.

    ``part`` are the row groups that are wanted. The footer is at the end, so a compressed file is
    unpacked to a temporary one first.
    """
    arrow = load_extra("pyarrow", "corpus", f"{name}: reading parquet")
    parquet = load_extra("pyarrow.parquet", "corpus", f"{name}: reading parquet")
    with tempfile.TemporaryFile() as unpacked:
        try:
            file = parquet.ParquetFile(_seekable(stream, unpacked))
            yield from _rows(file, name, options, part)
        except arrow.ArrowException as error:
            reason = str(error).splitlines()[0]
            raise DamagedError(
                f"{name}: damaged or not parquet ({reason}); fetch it again"
            ) from None


def _seekable(stream: io.BufferedReader, unpacked: IO[bytes]) -> IO[bytes]:
    if stream.seekable():
        return stream
    copyfileobj(stream, unpacked, 1 << 20)
    unpacked.seek(0)
    return unpacked


def _rows(file: Any, name: str, options: ReaderOptions, part: Part | None) -> Iterator[Document]:
    wanted = [options.field, *([options.id_field] if options.id_field else [])]
    present = file.schema_arrow.names
    columns = [key for key in (*wanted, *options.meta_fields) if key in present]
    missing = [key for key in wanted if key not in present]
    if missing:
        found = ", ".join(present)
        raise UserError(f"{name}: has no '{missing[0]}' (found: {found}); set field or id_field")
    groups = range(part.first, part.last) if part else range(file.num_row_groups)
    row = sum(file.metadata.row_group(number).num_rows for number in range(groups.start))
    for group in groups:
        # Asked for all groups at once, pyarrow holds on to what it read of each.
        for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=columns):
            for record in batch.to_pylist():
                row += 1
                yield to_document(record, name, row, f"{name}, row {row}", options)
