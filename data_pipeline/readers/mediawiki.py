"""MediaWiki XML dumps (``pages-articles``): a document per page."""

import io
from collections.abc import Iterator
from functools import partial
from typing import Any
from xml.etree import ElementTree

from convbert.data_pipeline.documents import Document
from convbert.data_pipeline.readers.lines import too_long
from convbert.data_pipeline.readers.options import ReaderOptions
from convbert.data_pipeline.readers.pages import Page, read_pages
from convbert.data_pipeline.readers.records import BadRecordError, Record, refused
from convbert.data_pipeline.readers.wikitext import prose


def read_mediawiki(
    stream: io.BufferedReader, name: str, options: ReaderOptions
) -> Iterator[Record]:
    """Yield records whose position is their page id, documents with title and revision.

    Redirects, pages outside the wanted namespaces and other content models are no records of text.
    Only one page is held at a time.
    """
    for page in read_pages(stream, name, options.max_bytes):
        number, where = f"{name}#{page.number}", f"{name}, page {page.number}"
        if len(page.content) >= options.max_bytes:
            yield refused(number, where, page.content[:4000], too_long(where, options))
        else:
            yield Record(number, where, page.content, partial(_read, page, where, name, options))


def _read(page: Page, where: str, name: str, options: ReaderOptions) -> Document | None:
    try:
        element = ElementTree.fromstring(page.content)
    except ElementTree.ParseError as error:
        raise BadRecordError(
            f"{where}: damaged XML ({error})", "fetch the dump again", "damaged XML"
        ) from None
    return _document(element, name, options)


def _document(page: Any, name: str, options: ReaderOptions) -> Document | None:
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
    number = page.findtext("{*}id", "0")
    meta = {
        "title": page.findtext("{*}title", ""),
        "revision": revision.findtext("{*}id", ""),
        "date": revision.findtext("{*}timestamp", ""),
    }
    return Document(f"{name}#{number}", prose(markup), name, meta)
