"""Tables with a header line: comma or tab separated."""

import csv
import io
from collections.abc import Iterator
from typing import Literal

from convbert.data_pipeline.documents import Document
from convbert.data_pipeline.readers.lines import numbered_lines
from convbert.data_pipeline.readers.options import ReaderOptions
from convbert.data_pipeline.readers.records import to_document
from convbert.models.errors import DamagedError


def read_csv(stream: io.BufferedReader, name: str, options: ReaderOptions) -> Iterator[Document]:
    """Yield documents whose position is their last line."""
    return _read(stream, name, options, ",")


def read_tsv(stream: io.BufferedReader, name: str, options: ReaderOptions) -> Iterator[Document]:
    """Yield documents whose position is their last line."""
    return _read(stream, name, options, "\t")


def _read(
    stream: io.BufferedReader, name: str, options: ReaderOptions, delimiter: str
) -> Iterator[Document]:
    # The default refuses documents beyond 131,072 characters; none would let a missing quote
    # swallow the rest of the file.
    csv.field_size_limit(options.max_bytes)
    lines = (line for _, line in numbered_lines(stream, name, options))
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if options.quotes else csv.QUOTE_NONE
    rows = csv.DictReader(lines, delimiter=delimiter, strict=True, quoting=quoting)
    try:
        for record in rows:
            where = f"{name}, line {rows.line_num}"
            yield to_document(record, name, rows.line_num, where, options)
    except csv.Error as error:
        raise DamagedError(
            f"{name}, line {rows.reader.line_num}: damaged table ({error}); mend it, or set "
            "quotes=false if its quotes enclose nothing"
        ) from None
