"""WARC and WET files of web crawls (ISO 28500), read by fastwarc.

A document is a ``conversion`` record (the text of a WET file), or the text of a page in a
``response`` or ``resource`` record. Other records, answers without success and other media types
are no records of text.
"""

import io
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from convbert.data_pipeline.documents import Document
from convbert.data_pipeline.extras import load_extra
from convbert.data_pipeline.readers.html import page_decode, page_text
from convbert.data_pipeline.readers.http import read_answer
from convbert.data_pipeline.readers.lines import decode, too_long
from convbert.data_pipeline.readers.options import ReaderOptions
from convbert.data_pipeline.readers.records import Place, Record, refused
from convbert.models.errors import DamagedError

_HTML = ("text/html", "application/xhtml+xml")
_META = {
    "WARC-Target-URI": "url",
    "WARC-Date": "date",
    "WARC-Identified-Content-Language": "languages",
}
_CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([^\s\"';,]+)", re.I)


class _Forwards(io.RawIOBase):
    """Passes a stream on, counting, and remembers its last bytes; fastwarc asks where it is."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self.stream = stream
        self.position = 0
        self.tail = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        content = self.stream.read(size)
        self.position += len(content)
        self.tail = (self.tail + content[-4:])[-4:]
        return content

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if (offset, whence) != (0, io.SEEK_CUR):
            raise io.UnsupportedOperation("a compressed stream cannot go back")
        return self.position


def read_warc(stream: io.BufferedReader, name: str, options: ReaderOptions) -> Iterator[Record]:
    """Yield records whose position is the number of their record in the file."""
    warc = load_extra("fastwarc.warc", "corpus", f"{name}: reading WARC")
    kinds = warc.WarcRecordType
    wanted = (kinds.conversion, kinds.response, kinds.resource)
    source = _Forwards(stream)
    number = 0
    try:
        records = warc.ArchiveIterator(source, parse_http=False, stream_detect=False)
        for number, record in enumerate(records, 1):
            if record.record_type in wanted:
                yield _record(record, name, number, options)
    except OSError as error:
        if error.errno is not None:
            raise
        raise DamagedError(
            f"{name}: damaged or not WARC behind record {number} ({error}); fetch it again"
        ) from None
    if source.tail not in (b"", b"\r\n\r\n"):
        raise DamagedError(f"{name}: is cut off at record {number}; fetch it again")


def _record(record: Any, name: str, number: int, options: ReaderOptions) -> Record:
    place = Place(name, "record", number)
    if record.content_length > options.max_bytes:
        content = record.reader.read(1000)
        return refused(place, content, too_long(place.where, options))
    content = record.reader.read()
    if len(content) != record.content_length:
        raise DamagedError(
            f"{place.where}: has {len(content)} of {record.content_length} bytes; "
            "fetch the file again"
        )
    return Record(place, content, partial(_document, record, content, place, options))


def _document(record: Any, content: bytes, place: Place, options: ReaderOptions) -> Document | None:
    text = _text(record, content, place, options)
    if text is None:
        return None
    meta = {k: record.headers[h] for h, k in _META.items() if h in record.headers}
    return Document(place.id, text, place.name, meta)


def _text(record: Any, content: bytes, place: Place, options: ReaderOptions) -> str | None:
    """Return the text of a record, or None if it holds none."""
    where = place.where
    media = _media(record.headers.get("Content-Type"))
    charset = None
    if media == "application/http":
        answer, content = read_answer(content, where, options.max_bytes)
        if answer.status_code != 200:
            return None
        typed = answer.get("Content-Type") or ""
        media, found = _media(typed), _CHARSET.search(typed)
        charset = found[1] if found else None
        if len(content) > options.max_bytes:  # when it was unpacked
            raise too_long(where, options)
        if media == "text/plain":
            return page_decode(content, charset, where)
    if media in _HTML:
        return page_text(page_decode(content, charset, where), options.html)
    return decode(content, place, options) if media == "text/plain" else None


def _media(content_type: str | None) -> str:
    return (content_type or "").split(";")[0].strip().lower()
