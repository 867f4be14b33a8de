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
HEAD_BYTES = 1 << 20  # of root and <siteinfo>; Wikipedia's take some kilobytes
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


class Dump:
    """A dump, or a part of one behind the dump's head; ``root`` is its root with ``<siteinfo>``.

    Raises ``UserError`` for XML of another kind, ``DamagedError`` for a head that is no XML.
    """

    def __init__(self, stream: io.BufferedReader, name: str, limit: int) -> None:
        self._source = _Source(stream)
        self._name = name
        self._limit = limit
        self._head, self._has_page = self._source.take(START, HEAD_BYTES)
        self.root = _root(self._head, name)

    def pages(self) -> Iterator[Page]:
        """Yield the pages, each of at most ``limit`` bytes.

        Raises ``DamagedError`` for a dump that ends within a page or before its root does.
        """
        last, rest, has_page = "0", self._head, self._has_page
        while has_page:
            content, ended = self._source.take(END, self._limit)
            if not ended:
                raise self._cut(last)
            for piece in content.split(START):  # a page whose end is damaged holds the next one
                page = Page(START + piece)
                last = page.number
                yield page
            rest, has_page = self._source.take(START, HEAD_BYTES)
        if b"</mediawiki>" not in rest and not rest.rstrip().endswith(b"/>"):
            raise self._cut(last)

    def _cut(self, last: str) -> DamagedError:
        return DamagedError(f"{self._name}: is cut off behind page {last}; fetch it again")


def _root(head: bytes, name: str) -> Any:
    parser: Any = ElementTree.XMLPullParser(("start",))
    try:
        parser.feed(head)
        root = next((element for _, element in parser.read_events()), None)
    except ElementTree.ParseError as error:
        raise DamagedError(f"{name}: damaged XML ({error}); fetch it again") from None
    tag = "" if root is None else str(root.tag).rsplit("}", 1)[-1]
    if tag != "mediawiki":
        raise UserError(
            f"{name}: its root is <{tag}>, not <mediawiki>; give a dump such as "
            "pages-articles.xml.bz2"
        )
    return root


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
