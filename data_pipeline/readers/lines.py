"""Lines of a byte stream."""

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from convbert.data_pipeline.readers.options import ReaderOptions, setting
from convbert.data_pipeline.readers.records import BadRecordError


@dataclass(slots=True)  # frozen ones take three times as long to make
class Line:
    """A line with its end; of one beyond the bound only the beginning is held."""

    number: int
    content: bytes
    where: str
    whole: bool

    def decode(self, options: ReaderOptions) -> str:
        """Return the text; raises ``BadRecordError``."""
        if not self.whole:
            raise too_long(self.where, options)
        return decode(self.content, self.where, options)


def decode(content: bytes, where: str, options: ReaderOptions) -> str:
    """Return bytes as text; ``BadRecordError`` names the place of one that is no character."""
    try:
        return content.decode(options.encoding)
    except UnicodeError as error:
        if options.invalid == "replace":
            return content.decode(options.encoding, "replace")
        name = options.encoding.upper()
        found = "has bytes that are"
        if isinstance(error, UnicodeDecodeError) and error.start < len(content):
            found = f"byte 0x{content[error.start]:02x} at {error.start} is"
        raise BadRecordError(
            f"{where}: {found} not {name}",
            f"convert the file, e.g. with iconv, or set {setting('encoding', 'NAME')} or "
            f"{setting('invalid', 'replace')}",
            f"not {name}",
        ) from None


def numbered_lines(stream: io.BufferedReader, name: str, options: ReaderOptions) -> Iterator[Line]:
    """Yield lines, numbered from 1; a byte order mark is no part of the first.

    The rest of a line beyond the bound is passed over without being held.
    """
    limit = options.max_bytes
    for number, line in enumerate(iter(partial(stream.readline, limit + 1), b""), 1):
        content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        whole = len(content) <= limit
        rest = content
        while not whole and rest and not rest.endswith(b"\n"):
            rest = stream.readline(1 << 20)
        yield Line(number, content if whole else content[:1000], f"{name}, line {number}", whole)


def too_long(where: str, options: ReaderOptions) -> BadRecordError:
    """Return the error for a document beyond the bound."""
    return BadRecordError(
        f"{where}: one document of more than {options.max_megabytes} MB",
        f"split it (text files: {setting('unit', 'line')} or paragraph) or raise "
        f"{setting('max_megabytes', 'N')}",
        "longer than max_megabytes",
    )
