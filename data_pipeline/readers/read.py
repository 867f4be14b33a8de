"""Documents of one file or of many, whatever their format."""

import io
import logging
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from pathlib import Path

from convbert.data_pipeline.documents import Document, StageReport, shown
from convbert.data_pipeline.readers.compression import decompressed, is_damage, split_suffix
from convbert.data_pipeline.readers.detect import SNIFFED_BYTES, SUFFIXES, by_content, by_name
from convbert.data_pipeline.readers.discovery import input_files
from convbert.data_pipeline.readers.inputs import InputFile
from convbert.data_pipeline.readers.jsonl import read_jsonl
from convbert.data_pipeline.readers.mediawiki import head_of_dump, read_mediawiki
from convbert.data_pipeline.readers.options import Format, ReaderOptions, setting
from convbert.data_pipeline.readers.parquet import read_parquet
from convbert.data_pipeline.readers.parts import part_of
from convbert.data_pipeline.readers.records import BadRecord, BadRecordError, Record, said
from convbert.data_pipeline.readers.table import read_csv, read_tsv
from convbert.data_pipeline.readers.text import read_text
from convbert.data_pipeline.readers.warc import read_warc
from convbert.models.errors import AbsentError, DamagedError, TransientError, UserError

log = logging.getLogger(__name__)

Reader = Callable[[io.BufferedReader, str, ReaderOptions], Iterator[Record]]
OnBad = Callable[[BadRecord], None]
"""Called with every record that is passed over."""

READERS: dict[Format, Reader] = {
    "text": read_text,
    "jsonl": read_jsonl,
    "csv": read_csv,
    "tsv": read_tsv,
    "warc": read_warc,
    "mediawiki": read_mediawiki,
}


def read_documents(
    inputs: Iterable[str | Path],
    options: ReaderOptions | None = None,
    report: StageReport | None = None,
) -> Iterator[Document]:
    """Yield every non-empty document in order; only one is held at a time.

    Records that are passed over are counted in ``report`` and said through the log at the end.
    Raises ``UserError`` naming the file, and the place in it where there is one, for unreadable
    input, and if there is no text at all.
    """
    options = options or ReaderOptions()
    report = report if report is not None else StageReport(stage="read")
    files = input_files(inputs, options.format)
    empty = True
    try:
        for file in files:
            for document in read_file(file, options, lambda bad: bad.count(report)):
                empty = False
                yield document
    finally:
        for line in said(report):
            log.warning(line)
    if empty:
        names = ", ".join(shown(file.name) for file in files[:3])
        found = "; ".join([f"no text in {len(files)} file(s)", *said(report)])
        raise UserError(f"{names}: {found}; check the input")


def iter_documents(
    inputs: Iterable[str | Path],
    options: ReaderOptions | None = None,
    report: StageReport | None = None,
) -> Iterator[str]:
    """Yield the texts of ``read_documents``."""
    return map(attrgetter("text"), read_documents(inputs, options, report))


def read_file(
    file: InputFile, options: ReaderOptions, on_bad: OnBad | None = None
) -> Iterator[Document]:
    """Yield the documents of one file that are not blank.

    Records that cannot be read stop with ``BadRecordError``, or go to ``on_bad`` where
    ``on_bad_record`` says so. Raises ``AbsentError``, ``DamagedError`` or ``TransientError`` for a
    file that is missing, truncated or altered, or cannot be read now; ``UserError`` for one that
    cannot be used. With ``on_bad_record=skip`` what is left of a damaged file counts as one bad
    record.
    """
    on_bad = on_bad or (lambda bad: None)
    last: Document | None = None
    try:
        for last in _documents(file, options, on_bad):
            if last.text and not last.text.isspace():
                yield last
    except GeneratorExit:
        raise
    except Exception as error:
        known = _explained(error, file, f" behind {last.id}" if last is not None else "")
        if options.on_bad_record != "skip" or not isinstance(known, DamagedError):
            if known is error:
                raise
            raise known from None if isinstance(error, OSError) or is_damage(error) else error
        what = str(known).partition("; ")[0]
        rest = BadRecordError(what, "fetch it again", "rest of a damaged file")
        on_bad(BadRecord(rest, Document(f"{file.label}#rest", "", file.name)))


def _explained(error: Exception, file: InputFile, place: str) -> UserError:
    """Return the error of a file as a user needs it: the file, the place in it and the remedy."""
    if isinstance(error, UserError):
        return error
    name = shown(file.name)
    if isinstance(error, FileNotFoundError):
        return AbsentError(f"{name}: no such file; check the path")
    reason = " ".join(str(error).split())
    if is_damage(error):
        return DamagedError(f"{shown(file.label)}: damaged{place} ({reason}); fetch it again")
    if isinstance(error, OSError):
        lasting = isinstance(error, PermissionError | IsADirectoryError)
        kind = UserError if lasting else TransientError
        return kind(f"{name}: cannot be read{place} ({error.strerror}); check the file")
    return DamagedError(
        f"{shown(file.label)}: cannot be read{place} ({type(error).__name__}: {reason:.200}); mend "
        "it or leave it out"
    )


def format_of(file: InputFile, stream: io.BufferedReader, options: ReaderOptions) -> Format:
    """Return the format of a file by options, name or content; ``stream`` keeps its position."""
    head = stream.peek(SNIFFED_BYTES)[:SNIFFED_BYTES]
    kind = options.format or by_name(file.name) or by_content(head)
    if kind is None:
        raise UserError(
            f"{shown(file.name)}: neither its name nor its content tells a known format; use one "
            f"of {', '.join(SUFFIXES)}, also as .gz .bz2 .zst .xz, or set "
            f"{setting('format', 'NAME')}"
        )
    return kind


def _documents(file: InputFile, options: ReaderOptions, on_bad: OnBad) -> Iterator[Document]:
    with file.open() as stored:
        _, named = split_suffix(file.name)
        stream = decompressed(stored, named)
        kind = format_of(file, stream, options)
        if not stream.peek(1):
            return
        skips = options.skips(kind)
        for record in _records(file, stream, kind, options):
            try:
                document = record.document()
            except BadRecordError as error:
                if not skips:
                    remedy = f"{error.remedy}, or set {setting('on_bad_record', 'skip')}"
                    raise BadRecordError(error.what, remedy, error.reason) from error
                on_bad(record.bad(error))
            else:
                if document is not None:
                    yield document


def _records(
    file: InputFile, stream: io.BufferedReader, kind: Format, options: ReaderOptions
) -> Iterator[Record]:
    if kind == "parquet":
        return read_parquet(stream, shown(file.name), options, file.part)
    if file.part is None:
        return READERS[kind](stream, shown(file.name), options)
    # What parts of a dump lack: its root and what it says of the site.
    is_dump = kind == "mediawiki"
    before, after = (head_of_dump(stream), b"</mediawiki>") if is_dump else (b"", b"")
    part = part_of(stream, file.part, before, after)
    return READERS[kind](part, shown(file.label), options)
