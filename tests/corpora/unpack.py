"""How the files of these packages become documents: a function per corpus."""

import gzip
import html
import json
import re
import zlib
from collections.abc import Iterator
from typing import Any

from convbert.data_pipeline.corpora.corpus import Files
from convbert.data_pipeline.corpora.packages import Archive
from convbert.data_pipeline.corpora.unpack import named, to_jsonl
from convbert.data_pipeline.readers.html import page_decode, page_text


def wiki_dump(archive: Archive) -> Files:
    """The dump as it is, for the reader of MediaWiki dumps."""
    (name,) = named(archive, r"gensim/test/test_data/enwiki-latest-pages-articles1\.xml.*bz2")
    yield name.rsplit("/", 1)[-1], archive.read(name)


def _descriptions(node: Any, key: str) -> Iterator[str]:
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key and isinstance(value, str):
                yield value
            else:
                yield from _descriptions(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from _descriptions(value, key)


def _untagged(markup: str) -> str:
    text = re.sub(r"</(p|li|ul|dt|dd|h\d)>|<br ?/?>", "\n", markup)
    return html.unescape(re.sub(r"<[^>]+>", "", text)).strip()


def aws_reference(archive: Archive) -> Files:
    """A document per version of a service: all that its description documents."""
    texts = []
    for name in named(archive, r"botocore/data/.*/service-2\.json\.gz"):
        service = json.loads(gzip.decompress(archive.read(name)))
        texts.append("\n".join(map(_untagged, _descriptions(service, "documentation"))))
    yield "botocore.jsonl", to_jsonl(texts)


def google_reference(archive: Archive) -> Files:
    """A document per version of a service: its descriptions."""
    names = named(archive, r"googleapiclient/discovery_cache/documents/.*\.json")
    services = (json.loads(archive.read(name)) for name in names)
    texts = ("\n".join(_descriptions(service, "description")) for service in services)
    yield "google-api.jsonl", to_jsonl(texts)


def dictionary(archive: Archive) -> Files:
    """An entry of the dictionary per document, without pronunciation and marks of source."""
    raw = gzip.decompress(archive.read("usr/share/dictd/gcide.dict.dz")).decode("utf-8", "replace")
    text = re.sub(r"\s*\[(?:[^\[\]]*Webster[^\[\]]*|PJC|WordNet[^\[\]]*)\]|[{}]", "", raw)
    text = re.sub(r" \\[^\\\n]+\\", "", text)
    entries = re.split(r"\n(?=\S)", text)
    joined = ("\n".join(map(_unwrapped, entry.split("\n\n"))) for entry in entries)
    yield "gcide.jsonl", to_jsonl(filter(None, map(str.strip, joined)))


def _unwrapped(paragraph: str) -> str:
    return " ".join(paragraph.split())


def glosses(archive: Archive) -> Files:
    """A document per lexicographer's file (such as noun.animal): a definition per line."""
    groups: dict[str, list[str]] = {}
    for part in ("adj", "adv", "noun", "verb"):
        for line in archive.read(f"usr/share/wordnet/data.{part}").decode("latin-1").splitlines():
            if line.startswith("  "):
                continue  # the license
            fields, gloss = line.split(" | ", 1)
            number, count = fields.split(" ")[1], int(fields.split(" ")[3], 16)
            words = [w.replace("_", " ") for w in fields.split(" ")[4 : 4 + 2 * count : 2]]
            groups.setdefault(number, []).append(f"{', '.join(words)}: {gloss.strip()}.")
    yield "wordnet.jsonl", to_jsonl("\n".join(groups[number]) for number in sorted(groups))


def _pages(archive: Archive, pattern: str) -> Iterator[str]:
    for name in named(archive, pattern):
        text = page_text(page_decode(archive.read(name), "utf-8"), "main")
        if text.strip():
            yield text


def anarchist_faq(archive: Archive) -> Files:
    """A page of the FAQ per document."""
    pages = _pages(archive, r"usr/share/doc/anarchism/html/.*\.html")
    yield "anarchism.jsonl", to_jsonl(pages)


def kernel_documentation(archive: Archive) -> Files:
    """A page per document, without translations and indices."""
    kept = r"(?!translations/|genindex|search)"
    pages = _pages(archive, rf"usr/share/doc/linux-doc-6\.1/html/{kept}.*\.html")
    yield "linux-doc.jsonl", to_jsonl(pages)


def novels(archive: Archive) -> Files:
    """The six novels of Jane Austen: a document each, paragraphs in lines."""
    data = archive.read("usr/lib/R/site-library/janeaustenr/data/Rdata.rdb")
    texts = []
    place = 0
    while place < len(data):
        # A block of R's lazy-load database: its size, then the size of its content, then zlib.
        size = int.from_bytes(data[place : place + 4], "big")
        start = data.index(b"\x78\x9c", place)
        block = zlib.decompressobj()
        content = block.decompress(data[start:])
        place = len(data) - len(block.unused_data)
        lines = list(_strings(content))
        if size and len(lines) > 1000:
            texts.append(_paragraphs(lines))
    yield "austen.jsonl", to_jsonl(texts)


def _strings(content: bytes) -> Iterator[str]:
    """Yield the strings of a serialized R vector: flags of a CHARSXP, length, bytes."""
    flags = re.compile(rb"\x00[\x00-\x0f]\x00\x09")
    place = 0
    while found := flags.search(content, place):
        start = found.end() + 4
        stop = start + int.from_bytes(content[found.end() : start], "big")
        yield content[start:stop].decode("utf-8", "replace")
        place = stop


def _paragraphs(lines: list[str]) -> str:
    """Join the lines of a wrapped text; blank ones separate paragraphs."""
    return "\n".join(_unwrapped(part) for part in "\n".join(lines).split("\n\n") if part.strip())
