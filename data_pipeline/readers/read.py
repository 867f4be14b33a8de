"""Documents of one file or of many, whatever their format."""

import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from convbert.data_pipeline.documents import Document
from convbert.data_pipeline.readers.compression import decompressed, is_damage, split_suffix
from convbert.data_pipeline.readers.detect import SNIFFED_BYTES, SUFFIXES, by_content, by_name
from convbert.data_pipeline.readers.inputs import InputFile, input_files
from convbert.data_pipeline.readers.jsonl import read_jsonl
from convbert.data_pipeline.readers.mediawiki import head_of_dump, read_mediawiki
from convbert.data_pipeline.readers.options import Format, ReaderOptions
from convbert.data_pipeline.readers.parquet import read_parquet
from convbert.data_pipeline.readers.parts import part_of
from convbert.data_pipeline.readers.table import read_csv, read_tsv
from convbert.data_pipeline.readers.text import read_text
from convbert.data_pipeline.readers.warc import read_warc
from convbert.models.errors import AbsentError, DamagedError, TransientError, UserError

Reader = Callable[[io.BufferedReader, str, ReaderOptions], Iterator[Document]]

READERS: dict[Format, Reader] = {
    "text": read_text,
    "jsonl": read_jsonl,
    "csv": read_csv,
    "tsv": read_tsv,
    "warc": read_warc,
    "mediawiki": read_mediawiki,
}


def read_documents(
    inputs: Iterable[str | Path], options: ReaderOptions | None = None
) -> Iterator[Document]:
    """Yield every non-empty document in order; only one is held at a time.

    Raises ``UserError`` naming the file, and the place in it where there is one, for unreadable
    input, and if there is no text at all.
    """
    files = input_files(inputs)
    empty = True
    for file in files:
        for document in read_file(file, options or ReaderOptions()):
            empty = False
            yield document
    if empty:
        names = ", ".join(file.name for file in files[:3])
        raise UserError(f"{names}: no text in {len(files)} file(s); check the input")


def iter_documents(
    inputs: Iterable[str | Path], options: ReaderOptions | None = None
) -> Iterator[str]:
    """Yield the texts of ``read_documents``."""
    return (document.text for document in read_documents(inputs, options))


def read_file(file: InputFile, options: ReaderOptions) -> Iterator[Document]:
    """Yield the documents of one file that are not blank.

    Raises ``AbsentError``, ``DamagedError`` or ``TransientError`` for a file that is missing,
    truncated or altered, or cannot be read now; ``UserError`` for one that cannot be used.
    """
    place = ""
    try:
        for document in _read(file, options):
            place = f" behind {document.id}"
            if document.text.strip():
                yield document
    except UserError:
        raise
    except FileNotFoundError:
        raise AbsentError(f"{file.name}: no such file; check the path") from None
    except Exception as error:
        if is_damage(error):
            reason = " ".join(str(error).split())
            raise DamagedError(f"{file.label}: damaged{place} ({reason}); fetch it again") from None
        if isinstance(error, OSError):
            lasting = isinstance(error, PermissionError | IsADirectoryError)
            kind = UserError if lasting else TransientError
            raise kind(
                f"{file.name}: cannot be read{place} ({error.strerror}); check the file"
            ) from None
        raise


def format_of(file: InputFile, stream: io.BufferedReader, options: ReaderOptions) -> Format:
    """Return the format of a file by options, name or content; ``stream`` keeps its position."""
    head = stream.peek(SNIFFED_BYTES)[:SNIFFED_BYTES]
    kind = options.format or by_name(file.name) or by_content(head)
    if kind is None:
        raise UserError(
            f"{file.name}: neither its name nor its content tells a known format; use one of "
            f"{', '.join(SUFFIXES)}, also as .gz .bz2 .zst .xz, or set format"
        )
    return kind


def _read(file: InputFile, options: ReaderOptions) -> Iterator[Document]:
    with file.open() as stored:
        _, named = split_suffix(file.name)
        stream = decompressed(stored, named)
        kind = format_of(file, stream, options)
        if not stream.peek(1):
            return
        if kind == "parquet":
            yield from read_parquet(stream, file.name, options, file.part)
        elif file.part is None:
            yield from READERS[kind](stream, file.name, options)
        else:
            # What parts of a dump lack: its root and what it says of the site.
            is_dump = kind == "mediawiki"
            before, after = (head_of_dump(stream), b"</mediawiki>") if is_dump else (b"", b"")
            part = part_of(stream, file.part, before, after)
            yield from READERS[kind](part, file.label, options)
