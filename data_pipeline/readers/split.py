"""Cut large files where documents begin, so that many processes can read one file.

What can be cut is stored without compression and tells where documents begin: lines of text and of
JSON, paragraphs, pages of a MediaWiki dump, row groups of a parquet file. Where a file is cut
follows from its bytes and the wanted size alone.
"""

import io
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

from convbert.data_pipeline.extras import load_extra
from convbert.data_pipeline.readers.compression import (
    Unpacked,
    decompressed,
    is_damage,
    split_suffix,
)
from convbert.data_pipeline.readers.inputs import InputFile, Part
from convbert.data_pipeline.readers.options import Format, ReaderOptions
from convbert.data_pipeline.readers.pages import START
from convbert.data_pipeline.readers.read import format_of

_SEARCHED_BYTES = 1 << 20

Cut = Callable[[io.BufferedReader, int, ReaderOptions], int]


def split_file(file: InputFile, options: ReaderOptions, target: int) -> list[InputFile]:
    """Return the parts of a file, of about ``target`` stored bytes each; or the file, uncut.

    A damaged file is not cut: its reader says what is wrong. Raises ``OSError`` if it cannot be
    read, and ``UserError`` for an unknown format.
    """
    try:
        return _split(file, options, target)
    except Exception as error:
        if is_damage(error):
            return [file]
        raise


def _split(file: InputFile, options: ReaderOptions, target: int) -> list[InputFile]:
    size = file.size()
    count = round(size / target)
    if count < 2:
        return [file]
    with file.open() as stored:
        _, named = split_suffix(file.name)
        stream = decompressed(stored, named)
        kind = format_of(file, stream, options)
        if isinstance(stream, Unpacked):
            return [file]
        if kind == "parquet":
            bounds = _row_groups(stream, target)
        else:
            bounds = _places(stream, kind, size, count, options)
    return [replace(file, part=part) for part in bounds] if len(bounds) > 1 else [file]


def _places(
    stream: io.BufferedReader, kind: Format, size: int, count: int, options: ReaderOptions
) -> list[Part]:
    """Return ``count`` parts of bytes, fewer where documents are longer than parts."""
    cut = _cut(kind, options)
    if cut is None:
        return []
    wanted = (size * number // count for number in range(1, count))
    places = {0, size, *(cut(stream, place, options) for place in wanted)}
    return [
        Part(first, last, last - first, is_last=last == size)
        for first, last in pairwise(sorted(places))
    ]


def _cut(kind: Format, options: ReaderOptions) -> Cut | None:
    """Return what finds the first document that begins at or behind a place."""
    if kind == "mediawiki":
        return _page
    if kind == "jsonl" or (kind == "text" and options.unit == "line"):
        return _line
    return _paragraph if kind == "text" and options.unit == "paragraph" else None


def _line(stream: io.BufferedReader, place: int, options: ReaderOptions) -> int:
    stream.seek(place - 1)
    stream.readline()
    return stream.tell()


def _paragraph(stream: io.BufferedReader, place: int, options: ReaderOptions) -> int:
    """Return the first line with text behind a blank one."""
    _line(stream, place, options)
    blank = False
    while line := stream.readline():
        has_text = bool(line.decode(options.encoding, "replace").strip())
        if has_text and blank:
            return stream.tell() - len(line)
        blank = not has_text
    return stream.tell()


def _page(stream: io.BufferedReader, place: int, options: ReaderOptions) -> int:
    """Return the next page; in the text of pages the sign is escaped."""
    stream.seek(place)
    kept = b""
    while content := stream.read(_SEARCHED_BYTES):
        found = (kept + content).find(START)
        if found >= 0:
            return stream.tell() - len(content) - len(kept) + found
        kept = content[1 - len(START) :]
    return stream.tell()


def _row_groups(stream: io.BufferedReader, target: int) -> list[Part]:
    """Return runs of row groups, closed when they reach ``target``; damage is met in reading."""
    arrow = load_extra("pyarrow", "corpus", "reading parquet")
    parquet = load_extra("pyarrow.parquet", "corpus", "reading parquet")
    try:
        table: Any = parquet.ParquetFile(stream).metadata
    except (arrow.ArrowException, UnicodeDecodeError):  # of a column's name
        return []
    parts = []
    first = size = 0
    for number in range(table.num_row_groups):
        # Not the columns' sizes: where their record is damaged, pyarrow ends the process.
        size += table.row_group(number).total_byte_size
        is_last = number + 1 == table.num_row_groups
        if size >= target or is_last:
            parts.append(Part(first, number + 1, size, is_last))
            first, size = number + 1, 0
    return parts
