"""Plain text: a document per file, per line, or per lines up to a blank one."""

import codecs
import io
from collections.abc import Iterator
from functools import partial

from convbert.data_pipeline.documents import Document
from convbert.data_pipeline.readers.lines import (
    decode,
    numbered_lines,
    too_long,
)
from convbert.data_pipeline.readers.options import ReaderOptions
from convbert.data_pipeline.readers.records import Place, Record, refused


def read_text(stream: io.BufferedReader, name: str, options: ReaderOptions) -> Iterator[Record]:
    """Yield records whose position is the number of their first line."""
    if options.unit == "file":
        yield _file(stream, name, options)
    elif options.unit == "line":
        plain = options.is_utf8
        for number, line, whole in numbered_lines(stream, options.max_bytes):
            place = Place(name, "line", number)
            yield Record(place, line, partial(_line, place, line, whole, options), plain)
    else:
        yield from _paragraphs(stream, name, options)


def _file(stream: io.BufferedReader, name: str, options: ReaderOptions) -> Record:
    content = stream.read(options.max_bytes + 1)
    place = Place(name, "", 1)
    if len(content) > options.max_bytes:
        return refused(place, content[:1000], too_long(name, options))
    content = content.removeprefix(codecs.BOM_UTF8)
    return Record(place, content, partial(_document, place, content, options), options.is_utf8)


def _line(place: Place, line: bytes, whole: bool, options: ReaderOptions) -> Document:
    return Document(place.id, decode(line, place, options, whole).rstrip("\r\n"), place.name)


def _document(place: Place, content: bytes, options: ReaderOptions) -> Document:
    return Document(place.id, decode(content, place, options), place.name)


def _paragraphs(stream: io.BufferedReader, name: str, options: ReaderOptions) -> Iterator[Record]:
    lines: list[bytes] = []
    first = size = 0
    plain, limit = options.is_utf8, options.max_bytes
    for number, line, whole in numbered_lines(stream, limit):
        # Some white space is none in bytes; most lines begin with what is surely none.
        visible = plain and b" " < line[:1] < b"\x7f"
        if visible or line.decode(options.encoding, "replace").strip():
            first = first if lines else number
            size += len(line) if whole else limit + 1
            if size <= limit or not lines:
                lines.append(line)
            else:
                del lines[1:]  # one beyond the bound is not held
        elif lines:
            yield _paragraph(Place(name, "line", first), lines, size, options, plain)
            lines, size = [], 0
    if lines:
        yield _paragraph(Place(name, "line", first), lines, size, options, plain)


def _paragraph(
    place: Place, lines: list[bytes], size: int, options: ReaderOptions, plain: bool
) -> Record:
    if size > options.max_bytes:
        return refused(place, lines[0], too_long(place.where, options))
    content = b"".join(lines)
    return Record(place, content, partial(_document, place, content, options), plain)
