"""A document on its way through the corpus pipeline, and what a stage says it did.

A stage is a pure function of documents: it returns those it keeps, in order, and a report. Reports
of parts of a corpus merge into the report of the whole, whatever the parts and their order.
"""

import heapq
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from convbert.models.errors import UserError
from convbert.models.schema import StrictModel

EXCERPT_CHARACTERS = 1000


@dataclass(slots=True)  # frozen ones take three times as long to make
class Document:
    """One text with its origin, and its language (ISO 639) where that is known.

    ``id`` is ``source#position`` unless the file gives ids of its own: it does not depend on other
    files or their order. ``source`` is the path or URL that was read, ``meta`` what else the
    format knows (title, URL, date, ...), values JSON can hold.
    """

    id: str
    text: str
    source: str
    meta: Mapping[str, Any] = field(default_factory=dict)
    language: str = ""

    def with_text(self, text: str) -> "Document":
        """Return the same document with another text."""
        return Document(self.id, text, self.source, self.meta, self.language)

    def with_language(self, language: str) -> "Document":
        """Return the same document with what its language was found to be."""
        return Document(self.id, self.text, self.source, self.meta, language)


def encodable(document: Document) -> Document:
    """Return a document whose strings all have a form in UTF-8, the same one if they have.

    Half surrogate pairs, which escapes of JSON and references of HTML can stand for, become U+FFFD;
    a byte of a path that is no UTF-8 becomes its escape, so that paths stay apart.
    """
    if (
        not document.meta
        and _has_form(document.text)
        and _has_form(document.id)
        and _has_form(document.source)
    ):
        return document  # nearly every one, and there may be one for each line of a file
    name, source = shown(document.id), shown(document.source)
    text, meta = _encodable(document.text), _encodable(document.meta)
    same = text is document.text and meta is document.meta
    if same and name is document.id and source is document.source:
        return document
    return Document(name, text, source, meta)


def shown(name: str) -> str:
    """Return the name of a file as text that can be printed and stored."""
    if _has_form(name):
        return name
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # no path: half pairs of an id that a file gives
        return str(_encodable(name))


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        if _has_form(value):
            return value
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, Mapping):
        fixed = {_encodable(key): _encodable(part) for key, part in value.items()}
        same = all(k is f and value[k] is fixed[f] for k, f in zip(value, fixed, strict=False))
        return value if same else fixed
    if isinstance(value, list | tuple):
        parts = [_encodable(part) for part in value]
        return value if all(map(operator.is_, parts, value)) else parts
    return value


def _has_form(text: str) -> bool:
    """Return whether a text can be encoded in UTF-8: all but half surrogate pairs can."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Sample(StrictModel):
    """A dropped document as a person wants to see it."""

    key: str = Field(description="digest of text and id, in whose order samples are kept")
    id: str
    detail: str = Field("", description="the measure that decided, e.g. 'mean length 11.2'")
    excerpt: str = Field(description=f"first {EXCERPT_CHARACTERS} characters")

    @classmethod
    def of(cls, document: Document, detail: str = "") -> "Sample":
        """Take the start of a document."""
        content = f"{document.text}\0{document.id}".encode("utf-8", "surrogatepass")
        key = blake2b(content, digest_size=8).hexdigest()
        excerpt = document.text[:EXCERPT_CHARACTERS]
        return cls(key=key, id=document.id, detail=detail, excerpt=excerpt)


class StageReport(BaseModel):
    """What a stage read, kept, changed and dropped, and why.

    ``seconds`` is CPU time in the stage, summed over processes: the one figure that differs between
    runs of equal input.
    """

    model_config = ConfigDict(extra="forbid")

    stage: str
    documents_in: int = 0
    documents_out: int = 0
    characters_in: int = 0
    characters_out: int = 0
    bytes_in: int = Field(0, description="of the text in UTF-8")
    bytes_out: int = 0
    changed: dict[str, int] = Field(default_factory=dict, description="documents by repair")
    dropped: dict[str, int] = Field(default_factory=dict, description="documents by reason")
    samples: dict[str, list[Sample]] = Field(
        default_factory=dict, description="dropped documents by reason, smallest keys first"
    )
    sample_limit: int = Field(20, ge=0, description="samples kept of each reason")
    seconds: float = 0.0

    def read(self, documents: Sequence[Document]) -> None:
        """Count documents that entered the stage."""
        characters, size = _sizes(documents)
        self.documents_in += len(documents)
        self.characters_in += characters
        self.bytes_in += size

    def keep(self, documents: Sequence[Document]) -> None:
        """Count documents that leave the stage."""
        characters, size = _sizes(documents)
        self.documents_out += len(documents)
        self.characters_out += characters
        self.bytes_out += size

    def change(self, repair: str) -> None:
        """Count a document that was altered."""
        self.changed[repair] = self.changed.get(repair, 0) + 1

    def drop(self, document: Document, reason: str, detail: str = "") -> None:
        """Count a dropped document, and hold it as a sample if its key is small enough."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        held = self.samples.get(reason, [])
        self.samples[reason] = self._smallest([*held, Sample.of(document, detail)])

    def merge(self, other: "StageReport") -> "StageReport":
        """Return the report of both parts; associative and commutative but for ``seconds``' ulps.

        Raises ``UserError`` if the parts are of different stages or hold different samples.
        """
        for name in ("stage", "sample_limit"):
            left, right = getattr(self, name), getattr(other, name)
            if left != right:
                raise UserError(f"report: {name} {left!r} and {right!r} differ; merge equal ones")
        both: dict[str, Any] = {
            name: getattr(self, name) + getattr(other, name)
            for name, field in type(self).model_fields.items()
            if field.annotation in (int, float) and name != "sample_limit"
        }
        for name in ("changed", "dropped"):
            left, right = getattr(self, name), getattr(other, name)
            both[name] = {k: left.get(k, 0) + right.get(k, 0) for k in sorted({*left, *right})}
        both["samples"] = {
            reason: self._smallest(self.samples.get(reason, []) + other.samples.get(reason, []))
            for reason in sorted({*self.samples, *other.samples})
        }
        return StageReport(stage=self.stage, sample_limit=self.sample_limit, **both)

    def _smallest(self, samples: list[Sample]) -> list[Sample]:
        return heapq.nsmallest(self.sample_limit, samples, key=lambda s: (s.key, s.id))


Stage = Callable[[Iterable[Document]], tuple[list[Document], StageReport]]


def _sizes(documents: Sequence[Document]) -> tuple[int, int]:
    """Return the characters of all texts, and their bytes in UTF-8."""
    texts = [document.text for document in documents]
    characters = sum(map(len, texts))
    longer = [text for text in texts if not text.isascii()]
    encoded = sum([len(text.encode("utf-8", "surrogatepass")) for text in longer])
    return characters, characters - sum(map(len, longer)) + encoded
