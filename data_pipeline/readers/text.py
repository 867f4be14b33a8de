"""Plain text: a document per file, per line, or per lines up to a blank one."""

import codecs
import io
from collections.abc import Iterator
from functools import partial

from convbert.data_pipeline.documents import Document
from convbert.data_pipeline.readers.lines import Line, decode, numbered_lines, too_long
from convbert.data_pipeline.readers.options import ReaderOptions
from convbert.data_pipeline.readers.records import Record, refused


def read_text(stream: io.BufferedReader, name: str, options: ReaderOptions) -> Iterator[Record]:
    """Yield records whose position is the number of their first line."""
    if options.unit == "file":
        yield _file(stream, name, options)
    elif options.unit == "line":
        for line in numbered_lines(stream, name, options):
            number = f"{name}#{line.number}"
            yield Record(
                number, line.where, line.content, partial(_line, number, line, name, options)
            )
    else:
        yield from _paragraphs(stream, name, options)


def _file(stream: io.BufferedReader, name: str, options: ReaderOptions) -> Record:
    content = stream.read(options.max_bytes + 1)
    number = f"{name}#1"
    if len(content) > options.max_bytes:
        return refused(number, name, content[:1000], too_long(name, options))
    content = content.removeprefix(codecs.BOM_UTF8)
    return Record(
        number, name, content, lambda: Document(number, decode(content, name, options), name)
    )


def _line(number: str, line: Line, name: str, options: ReaderOptions) -> Document:
    return Document(number, line.decode(options).rstrip("\r\n"), name)


def _paragraphs(stream: io.BufferedReader, name: str, options: ReaderOptions) -> Iterator[Record]:
    lines: list[Line] = []
    size = 0
    for line in numbered_lines(stream, name, options):
        # White space that is blank in text but not in bytes ends a paragraph too.
        if line.content.decode(options.encoding, "replace").strip():
            size += len(line.content)
            if lines and (size > options.max_bytes or not line.whole):
                lines = [*lines[:1], Line(line.number, b"", line.where, whole=False)]
            else:
                lines.append(line)
        elif lines:
            yield _paragraph(lines, name, options)
            lines, size = [], 0
    if lines:
        yield _paragraph(lines, name, options)


def _paragraph(lines: list[Line], name: str, options: ReaderOptions) -> Record:
    number, where = f"{name}#{lines[0].number}", lines[0].where
    if not all(line.whole for line in lines):
        return refused(number, where, lines[0].content, too_long(where, options))
    content = b"".join(line.content for line in lines)
    return Record(
        number, where, content, lambda: Document(number, decode(content, where, options), name)
    )
