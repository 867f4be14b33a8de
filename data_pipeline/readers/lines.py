"""Lines of a byte stream as text."""

import codecs
import io
from collections.abc import Iterator
from functools import partial

from convbert.data_pipeline.readers.options import ReaderOptions
from convbert.models.errors import UserError


def decode(content: bytes, where: str, options: ReaderOptions) -> str:
    """Return bytes as text; ``UserError`` names the place of one that is no character."""
    try:
        return content.decode(options.encoding)
    except UnicodeDecodeError as error:
        if options.invalid == "replace":
            return content.decode(options.encoding, "replace")
        byte = content[error.start]
        raise UserError(
            f"{where}: byte 0x{byte:02x} at {error.start} is not {options.encoding.upper()}; "
            "convert the file, e.g. with iconv, or set encoding or invalid=replace"
        ) from None


def numbered_lines(
    stream: io.BufferedReader, name: str, options: ReaderOptions
) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line with its end); a byte order mark is no part of the text."""
    limit = options.max_bytes
    for number, line in enumerate(iter(partial(stream.readline, limit + 1), b""), 1):
        content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if len(content) > limit:
            raise too_long(f"{name}, line {number}", options)
        yield number, decode(content, f"{name}, line {number}", options)


def too_long(where: str, options: ReaderOptions) -> UserError:
    """Return the error for a document beyond the bound."""
    return UserError(
        f"{where}: one document of more than {options.max_megabytes} MB; split it (text files: "
        "unit=line or paragraph) or raise max_megabytes"
    )
