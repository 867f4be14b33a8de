"""MediaWiki XML dumps (``pages-articles``): a document per page."""

import io
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from convbert.data_pipeline.documents import Document
from convbert.data_pipeline.readers.options import ReaderOptions
from convbert.data_pipeline.readers.wiki_site import Site, redirect_end
from convbert.data_pipeline.readers.wikitext import prose
from convbert.models.errors import DamagedError, UserError

_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_HEAD_BYTES, _LONGEST_HEAD = 1 << 14, 1 << 20


def read_mediawiki(
    stream: io.BufferedReader, name: str, options: ReaderOptions
) -> Iterator[Document]:
    """Yield documents whose position is their page id, with title and revision.

    The dump's ``<siteinfo>`` names what its pages do not show. Redirects, pages outside the wanted
    namespaces and other content models are passed over. Only one page is held at a time.
    """
    page = "0"
    try:
        for element, site in _pages(stream, name):
            page = element.findtext("{*}id", "0")
            document = _document(element, name, options, site)
            if document is not None:
                yield document
    except ElementTree.ParseError as error:
        raise DamagedError(
            f"{name}: damaged XML behind page {page} ({error}); fetch it again"
        ) from None


def _pages(stream: io.BufferedReader, name: str) -> Iterator[tuple[Any, Site]]:
    """Yield page elements and their site, each emptied when the next is asked for."""
    events = ElementTree.iterparse(stream, ("start", "end"))
    root = None
    site = Site()
    for event, element in events:
        if root is None:
            root = element
            if _local(element) != "mediawiki":
                raise UserError(
                    f"{name}: its root is <{_local(element)}>, not <mediawiki>; give a dump such "
                    "as pages-articles.xml.bz2"
                )
            site = Site(language=root.get(_LANGUAGE, ""))
        elif event == "end" and _local(element) == "siteinfo":
            site = Site.of(element, site.language)
        elif event == "end" and _local(element) == "page":
            yield element, site
            root.clear()


def _local(element: Any) -> str:
    """Return a tag without its name space, which names the version of the dump."""
    return str(element.tag).rsplit("}", 1)[-1]


def head_of_dump(stream: io.BufferedReader) -> bytes:
    """Return what precedes the first page of a dump: its root and ``<siteinfo>``.

    A part of a file is read behind it. What is no dump has no head; the reader says so.
    """
    stream.seek(0)
    head = b""
    while content := stream.read(_HEAD_BYTES):
        head += content
        first = head.find(b"<page>")
        if first >= 0:
            return head[:first]
        if len(head) > _LONGEST_HEAD:
            break
    return b"<mediawiki>"


def _document(page: Any, name: str, options: ReaderOptions, site: Site) -> Document | None:
    revision = page.find("{*}revision")
    if revision is None or page.find("{*}redirect") is not None:
        return None
    if int(page.findtext("{*}ns", "0")) not in options.namespaces:
        return None
    if revision.findtext("{*}model", "wikitext") != "wikitext":
        return None
    markup = revision.findtext("{*}text") or ""
    if markup.lstrip()[:9].upper() == "#REDIRECT":
        return None
    redirect = redirect_end(markup)
    if redirect and not prose(markup[redirect:], site):
        return None
    number = page.findtext("{*}id", "0")
    meta = {
        "title": page.findtext("{*}title", ""),
        "revision": revision.findtext("{*}id", ""),
        "date": revision.findtext("{*}timestamp", ""),
    }
    return Document(f"{name}#{number}", prose(markup, site), name, meta)
