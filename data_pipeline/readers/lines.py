"""Lines of a byte stream."""

import codecs
import io
from collections.abc import Iterator
from functools import partial

from convbert.data_pipeline.readers.options import ReaderOptions, setting
from convbert.data_pipeline.readers.records import BadRecordError, Place


def decode(content: bytes, place: Place, options: ReaderOptions, whole: bool = True) -> str:
    """Return bytes as text.

    Raises ``BadRecordError`` for one that is no character, and for bytes that are not ``whole``.
    """
    if not whole:
        raise too_long(place.where, options)
    try:
        return content.decode(options.encoding)
    except UnicodeError as error:
        if options.invalid == "replace":
            return content.decode(options.encoding, "replace")
        name = options.encoding.upper()
        found = "has bytes that are"
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise BadRecordError(
                f"{place.where}: is UTF-16, not {name}",
                "convert the file, e.g. with iconv -f utf-16 -t utf-8",
                f"UTF-16, not {name}",
            ) from None
        if isinstance(error, UnicodeDecodeError) and error.start < len(content):
            found = f"byte 0x{content[error.start]:02x} at {error.start} is"
        raise BadRecordError(
            f"{place.where}: {found} not {name}",
            f"convert the file, e.g. with iconv, or set {setting('encoding', 'NAME')} or "
            f"{setting('invalid', 'replace')}",
            f"not {name}",
        ) from None


def numbered_lines(stream: io.BufferedReader, limit: int) -> Iterator[tuple[int, bytes, bool]]:
    """Yield number from 1, content and whether it is whole, of every line.

    A byte order mark is no part of the first. The rest of a line of more than ``limit`` bytes is
    passed over without being held.
    """
    for number, line in enumerate(iter(partial(stream.readline, limit + 1), b""), 1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if len(line) <= limit:
            yield number, line, True
            continue
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = stream.readline(1 << 20)
        yield number, line[:1000], False


def too_long(where: str, options: ReaderOptions) -> BadRecordError:
    """Return the error for a document beyond the bound."""
    return BadRecordError(
        f"{where}: one document of more than {options.max_megabytes} MB",
        f"split it (text files: {setting('unit', 'line')} or paragraph) or raise "
        f"{setting('max_megabytes', 'N')}",
        "longer than max_megabytes",
    )
