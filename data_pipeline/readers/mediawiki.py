"""MediaWiki XML dumps (``pages-articles``): a document per page."""

import io
from collections.abc import Iterator
from functools import partial
from typing import Any
from xml.etree import ElementTree

from convbert.data_pipeline.documents import Document
from convbert.data_pipeline.readers.lines import too_long
from convbert.data_pipeline.readers.options import ReaderOptions
from convbert.data_pipeline.readers.pages import HEAD_BYTES, START, Dump, Page
from convbert.data_pipeline.readers.records import BadRecordError, Place, Record, refused
from convbert.data_pipeline.readers.wiki_site import Site, redirect_end
from convbert.data_pipeline.readers.wikitext import prose

_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"


def read_mediawiki(
    stream: io.BufferedReader, name: str, options: ReaderOptions
) -> Iterator[Record]:
    """Yield records whose position is their page id, documents with title and revision.

    The dump's ``<siteinfo>`` names what its pages do not show. Redirects, pages outside the wanted
    namespaces and other content models are no records of text. Only one page is held at a time.
    """
    dump = Dump(stream, name, options.max_bytes)
    site = _site(dump.root)
    for page in dump.pages():
        place = Place(name, "page", page.number)
        if len(page.content) >= options.max_bytes:
            yield refused(place, page.content[:4000], too_long(place.where, options))
        else:
            read = partial(_read, page, site, place.where, name, options)
            yield Record(place, page.content, read)


def _read(page: Page, site: Site, where: str, name: str, options: ReaderOptions) -> Document | None:
    try:
        element = ElementTree.fromstring(page.content)
    except ElementTree.ParseError as error:
        raise BadRecordError(
            f"{where}: damaged XML ({error})", "fetch the dump again", "damaged XML"
        ) from None
    return _document(element, name, options, site)


def _site(root: Any) -> Site:
    """Read the names of a site in the root of its dump."""
    site = Site(language=root.get(_LANGUAGE, ""))
    siteinfo = root.find("{*}siteinfo")
    return site if siteinfo is None else Site.of(siteinfo, site.language)


def head_of_dump(stream: io.BufferedReader) -> bytes:
    """Return what precedes the first page of a dump: its root and ``<siteinfo>``.

    A part of a file is read behind it. What is no dump has no head; the reader says so.
    """
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    first = head.find(START)
    return head[:first] if first >= 0 else b"<mediawiki>"


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
