"""WARC and WET files of web crawls (ISO 28500), read by fastwarc.

A document is a ``conversion`` record (the text of a WET file), or the text of a page in a
``response`` or ``resource`` record. Other records, answers without success, other media types and
records beyond ``max_megabytes`` are passed over.
"""

import io
from collections.abc import Iterator
from typing import Any

from convbert.data_pipeline.documents import Document
from convbert.data_pipeline.extras import load_extra
from convbert.data_pipeline.readers.html import page_decode, page_text
from convbert.data_pipeline.readers.lines import decode
from convbert.data_pipeline.readers.options import ReaderOptions
from convbert.models.errors import DamagedError

_HTML = ("text/html", "application/xhtml+xml")
_META = {
    "WARC-Target-URI": "url",
    "WARC-Date": "date",
    "WARC-Identified-Content-Language": "languages",
}


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


def read_warc(stream: io.BufferedReader, name: str, options: ReaderOptions) -> Iterator[Document]:
    """Yield documents whose position is the number of their record."""
    warc = load_extra("fastwarc.warc", "corpus", f"{name}: reading WARC")
    kinds = warc.WarcRecordType
    wanted = (kinds.conversion, kinds.response, kinds.resource)
    source = _Forwards(stream)
    number = 0
    try:
        records = warc.ArchiveIterator(source, parse_http=False, stream_detect=False)
        for number, record in enumerate(records, 1):
            if record.record_type in wanted and record.content_length <= options.max_bytes:
                text = _text(record, f"{name}, record {number}", options)
                if text is not None:
                    meta = {k: record.headers[h] for h, k in _META.items() if h in record.headers}
                    yield Document(f"{name}#{number}", text, name, meta)
    except OSError as error:
        if error.errno is not None:
            raise
        raise DamagedError(
            f"{name}: damaged or not WARC behind record {number} ({error}); fetch it again"
        ) from None
    if source.tail not in (b"", b"\r\n\r\n"):
        raise DamagedError(f"{name}: is cut off at record {number}; fetch it again")


def _text(record: Any, where: str, options: ReaderOptions) -> str | None:
    """Return the text of a record, or None if it holds none."""
    content = record.reader.read()
    if len(content) != record.content_length:
        raise DamagedError(
            f"{where}: has {len(content)} of {record.content_length} bytes; fetch the file again"
        )
    media = (record.headers.get("Content-Type") or "").split(";")[0].strip().lower()
    charset = None
    if media == "application/http":
        record.set_bytes_content(content)
        record.parse_http(auto_decode="all")
        if record.http_headers is None or record.http_headers.status_code != 200:
            return None
        content = record.reader.read()
        media, charset = (record.http_content_type or "").lower(), record.http_charset
        if media == "text/plain":
            return page_decode(content, charset)
    if media in _HTML:
        return page_text(page_decode(content, charset), options.html)
    return decode(content, where, options) if media == "text/plain" else None
