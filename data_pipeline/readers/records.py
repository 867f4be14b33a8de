"""Records: what a reader cuts a file into, each meant to become a document.

Readers cut, ``Record.document`` reads one piece. All that can be wrong with a piece is met there,
in one place, so that a bad record can be told with its place, or passed over and counted.
"""

from collections.abc import Callable
from dataclasses import dataclass

from convbert.data_pipeline.documents import (
    EXCERPT_CHARACTERS,
    Document,
    StageReport,
    encodable,
    shown,
)
from convbert.models.errors import DamagedError, UserError


class BadRecordError(DamagedError):
    """A record that is no document: what is wrong and what to do.

    ``reason`` says it without place and value, so that equal ones can be counted.
    """

    def __init__(self, what: str, remedy: str, reason: str) -> None:
        # They may quote the record: half surrogate pairs would stop a report from being written.
        what, reason = shown(what), shown(reason)
        super().__init__(what, remedy, reason)  # what another process makes it of again
        self.what = what
        self.remedy = remedy
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that was passed over: why, and its place and beginning as a document."""

    error: BadRecordError
    document: Document

    def count(self, report: StageReport) -> None:
        """Count it in a report as a document that came in and was dropped."""
        report.documents_in += 1
        report.drop(self.document, self.error.reason, self.error.what)


@dataclass(slots=True)  # frozen ones take three times as long to make
class Place:
    """Where a record is: its number among the lines, rows, ... of a file; ``kind`` says which.

    Every line of a file has one, so what it is called is made when somebody asks.
    """

    name: str
    kind: str
    number: int | str

    @property
    def id(self) -> str:
        """The id of a document that is there, unless the file gives it another."""
        return f"{self.name}#{self.number}"

    @property
    def where(self) -> str:
        """The place as messages name it."""
        return f"{self.name}, {self.kind} {self.number}" if self.kind else self.name


@dataclass(slots=True)
class Record:
    """A piece of a file: its place, its content, and how to read it.

    ``read`` returns None for what is meant to be no document, as the redirects of a dump are. Of
    ``plain`` ones it makes a text that was UTF-8, with the id of the place: it can be encoded.
    """

    place: Place
    content: bytes | str
    read: Callable[[], Document | None]
    plain: bool = False

    def document(self) -> Document | None:
        """Read the piece; every string of the document can be encoded.

        Raises ``BadRecordError`` for a piece that is no document, whatever library says so, and
        other ``UserError``s for options that fit no piece and for files that are cut.
        """
        try:
            document = self.read()
            return document if document is None or self.plain else encodable(document)
        except UserError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise BadRecordError(
                f"{self.place.where}: cannot be read ({type(error).__name__}: {reason})",
                "mend or remove it",
                f"cannot be read ({type(error).__name__})",
            ) from error

    def bad(self, error: BadRecordError) -> BadRecord:
        """Return the record as one that was passed over."""
        start = self.content[: 4 * EXCERPT_CHARACTERS]
        text = start if isinstance(start, str) else start.decode("utf-8", "replace")
        place = self.place
        document = Document(place.id, text[:EXCERPT_CHARACTERS], place.name)
        return BadRecord(error, encodable(document))


def refused(place: Place, content: bytes | str, error: BadRecordError) -> Record:
    """Return a record that is known to be bad before it is read."""

    def read() -> Document | None:
        raise error

    return Record(place, content, read)


def said(report: StageReport) -> list[str]:
    """Return lines that say how many records were passed over, and show one of each reason."""
    reasons = sorted(report.dropped.items(), key=lambda item: (-item[1], item[0]))
    if not reasons:
        return []
    counts = ", ".join(f"{reason}: {count:,}" for reason, count in reasons)
    shown = [sample for reason, _ in reasons for sample in report.samples.get(reason, [])[:1]]
    return [
        f"passed over {sum(report.dropped.values()):,} record(s) that cannot be read ({counts})",
        *(f"for example {sample.detail}" for sample in shown),
    ]
