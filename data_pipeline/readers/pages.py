"""Pages of a MediaWiki dump, cut out by their tags: no damaged or endless page hides the others.

The signs of tags are escaped in the text of pages, so ``<page>`` and ``</page>`` stand for nothing
else.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from convbert.models.errors import DamagedError, UserError

START, END = b"<page>", b"</page>"
_READ_BYTES = 1 << 17
_HEAD_BYTES = 1 << 22
_ID = re.compile(rb"<id>\s*(\d{1,18})\s*</id>")


@dataclass(frozen=True, slots=True)
class Page:
    """The XML of a page; of one beyond the bound only the beginning."""

    content: bytes

    @property
    def number(self) -> str:
        """The page's id, 0 if there is none; the revision's comes behind it."""
        found = _ID.search(self.content, 0, 4096)
        return found[1].decode() if found else "0"


def read_pages(stream: io.BufferedReader, name: str, limit: int) -> Iterator[Page]:
    """Yield the pages of a dump, each of at most ``limit`` bytes.

    Raises ``UserError`` for XML of another kind, and ``DamagedError`` for a dump that ends within a
    page or before its root does.
    """
    source = _Source(stream)
    head, has_page = source.take(START, _HEAD_BYTES)
    _check_root(head, name)
    last, rest = "0", head
    while has_page:
        content, ended = source.take(END, limit)
        if not ended:
            raise DamagedError(f"{name}: is cut off behind page {last}; fetch it again")
        for piece in content.split(START):  # a page whose end is damaged holds the next one
            page = Page(START + piece)
            last = page.number
            yield page
        rest, has_page = source.take(START, _HEAD_BYTES)
    if b"</mediawiki>" not in rest and not rest.rstrip().endswith(b"/>"):
        raise DamagedError(f"{name}: is cut off behind page {last}; fetch it again")


def _check_root(head: bytes, name: str) -> None:
    parser: Any = ElementTree.XMLPullParser(("start",))
    try:
        parser.feed(head)
        tag = next((str(element.tag) for _, element in parser.read_events()), "")
    except ElementTree.ParseError as error:
        raise DamagedError(f"{name}: damaged XML ({error}); fetch it again") from None
    root = tag.rsplit("}", 1)[-1]
    if root != "mediawiki":
        raise UserError(
            f"{name}: its root is <{root}>, not <mediawiki>; give a dump such as "
            "pages-articles.xml.bz2"
        )


class _Source:
    """A stream from which bytes are taken up to a mark."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        self._ahead = b""

    def take(self, mark: bytes, limit: int) -> tuple[bytes, bool]:
        """Return what comes before the end of the next ``mark``, and whether there is one.

        Of more than ``limit`` bytes only the first are held; then the mark is left out.
        """
        held = bytearray()
        while True:
            place = self._ahead.find(mark)
            safe = place + len(mark) if place >= 0 else len(self._ahead) - len(mark) + 1
            held += self._ahead[: max(0, min(safe, limit - len(held)))]
            if place >= 0:
                self._ahead = self._ahead[safe:]
                return bytes(held), True
            self._ahead = self._ahead[max(0, safe) :]
            more = self._stream.read(_READ_BYTES)
            if not more:
                held += self._ahead[: max(0, limit - len(held))]
                self._ahead = b""
                return bytes(held), False
            self._ahead += more
