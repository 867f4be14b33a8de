"""Tables with a header line: comma or tab separated."""

import csv
import io
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Literal

from convbert.data_pipeline.readers.fields import require_columns, to_document
from convbert.data_pipeline.readers.lines import decode, numbered_lines
from convbert.data_pipeline.readers.options import ReaderOptions, setting
from convbert.data_pipeline.readers.records import BadRecordError, Place, Record, refused


def read_csv(stream: io.BufferedReader, name: str, options: ReaderOptions) -> Iterator[Record]:
    """Yield records whose position is their last line."""
    return _Table(stream, name, options, ",").records()


def read_tsv(stream: io.BufferedReader, name: str, options: ReaderOptions) -> Iterator[Record]:
    """Yield records whose position is their last line."""
    return _Table(stream, name, options, "\t").records()


class _Table:
    """Rows of a table, and what was wrong with the lines of the row that is read."""

    def __init__(
        self, stream: io.BufferedReader, name: str, options: ReaderOptions, delimiter: str
    ) -> None:
        # The default refuses documents beyond 131,072 characters; none would let a missing quote
        # swallow the rest of the file.
        csv.field_size_limit(options.max_bytes)
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if options.quotes else csv.QUOTE_NONE
        self._name = name
        self._options = options
        self._plain = options.is_utf8
        self._delimiter = "a comma" if delimiter == "," else "a tab"
        self._rows = csv.DictReader(
            self._lines(stream), delimiter=delimiter, strict=True, quoting=quoting
        )
        self._error: BadRecordError | None = None

    def records(self) -> Iterator[Record]:
        """Yield the rows; raises ``UserError`` for a header without the wanted columns."""
        self._read_header()
        while True:
            self._error = None
            content = ""
            try:
                row: dict[str | None, Any] = next(self._rows)
                content = row.get(self._options.field) or ""
                self._error = self._error or self._excess(row.pop(None, ()))
            except StopIteration:
                return
            except csv.Error as error:
                self._error = self._error or self._damage(error)
            if self._error is not None:
                yield refused(self._place, content, self._error)
            else:
                place = self._place
                read = partial(to_document, row, place, self._options)
                yield Record(place, content, read, self._plain)

    def _read_header(self) -> None:
        try:
            while (header := self._rows.fieldnames) == []:
                self._rows.fieldnames = None  # a blank line: the header is the next one
        except csv.Error as error:
            raise self._damage(error) from None
        if self._error is not None:
            raise self._error
        if header:
            require_columns(header, self._place.where, self._options)

    def _excess(self, behind: Sequence[str]) -> BadRecordError | None:
        """Return the error of a row whose fields go on behind the last column, unless with blanks.

        Most often they are the rest of a text that holds what parts fields.
        """
        if not any(map(str.strip, behind)):
            return None
        columns = len(self._rows.fieldnames or ())
        return BadRecordError(
            f"{self._place.where}: has {columns + len(behind)} fields for {columns} column(s), "
            f"'{behind[0]:.40}' is the first without one",
            f"{'quote' if self._options.quotes else 'mend'} a text that holds {self._delimiter}",
            "more fields than columns",
        )

    def _damage(self, error: csv.Error) -> BadRecordError:
        return BadRecordError(
            f"{self._place.where}: damaged table ({error})",
            f"mend it, or set {setting('quotes', 'false')} if its quotes enclose nothing",
            "damaged table",
        )

    def _lines(self, stream: io.BufferedReader) -> Iterator[str]:
        """Yield lines as text; the row of one that cannot be decoded is bad as a whole."""
        options = self._options
        place = Place(self._name, "line", 0)
        for place.number, line, whole in numbered_lines(stream, options.max_bytes):
            try:
                yield decode(line, place, options, whole)
            except BadRecordError as error:
                self._error = error
                yield line.decode(options.encoding, "replace")

    @property
    def _place(self) -> Place:
        return Place(self._name, "line", self._rows.reader.line_num)
