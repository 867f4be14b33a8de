"""Plain text: a document per file, per line, or per lines up to a blank one."""

import codecs
import io
from collections.abc import Iterator

from convbert.data_pipeline.documents import Document
from convbert.data_pipeline.readers.lines import decode, numbered_lines, too_long
from convbert.data_pipeline.readers.options import ReaderOptions


def read_text(stream: io.BufferedReader, name: str, options: ReaderOptions) -> Iterator[Document]:
    """Yield documents whose position is the number of their first line."""
    if options.unit == "file":
        content = stream.read(options.max_bytes + 1)
        if len(content) > options.max_bytes:
            raise too_long(name, options)
        text = decode(content.removeprefix(codecs.BOM_UTF8), name, options)
        yield Document(f"{name}#1", text, name)
    elif options.unit == "line":
        for number, line in numbered_lines(stream, name, options):
            yield Document(f"{name}#{number}", line.rstrip("\r\n"), name)
    else:
        for number, paragraph in _paragraphs(stream, name, options):
            yield Document(f"{name}#{number}", paragraph, name)


def _paragraphs(
    stream: io.BufferedReader, name: str, options: ReaderOptions
) -> Iterator[tuple[int, str]]:
    lines: list[str] = []
    first = size = 0
    for number, line in numbered_lines(stream, name, options):
        if line.strip():
            first = first if lines else number
            lines.append(line)
            size += len(line)
            if size > options.max_bytes:
                raise too_long(f"{name}, line {first}", options)
        elif lines:
            yield first, "".join(lines)
            lines, size = [], 0
    if lines:
        yield first, "".join(lines)
