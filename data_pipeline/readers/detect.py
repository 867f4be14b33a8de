"""Recognize a file's format by its name, or by its first bytes."""

import codecs
import re
from pathlib import PurePosixPath

from convbert.data_pipeline.readers.compression import split_suffix
from convbert.data_pipeline.readers.options import Format

SNIFFED_BYTES = 4096

SUFFIXES: dict[str, Format] = {
    ".txt": "text",
    ".md": "text",
    ".jsonl": "jsonl",
    ".jsonlines": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".warc": "warc",
    ".wet": "warc",
    ".xml": "mediawiki",
}
# Wikimedia adds the range of pages: enwiki-20260101-pages-articles1.xml-p1p41242.bz2
_DUMP_PART = re.compile(r"\.xml-p\d+p\d+[^./]*$")
_PART = re.compile(r"(^|/)part-(?:[mr]-)?\d+$")


def by_name(name: str) -> Format | None:
    """Return the format that a file's name stands for, or None."""
    bare, _ = split_suffix(name)
    if _DUMP_PART.search(bare):
        return "mediawiki"
    return SUFFIXES.get(PurePosixPath(bare).suffix.lower())


def is_data(name: str) -> bool:
    """Whether a file of a directory holds data by its name; of some the content tells the format.

    Names of the parts that Hadoop and Spark write, ``part-00000``, have no suffix.
    """
    return by_name(name) is not None or bool(_PART.search(split_suffix(name)[0]))


def by_content(head: bytes) -> Format | None:
    """Return the format of a file that starts with ``head``, or None for one that is no text."""
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"WARC/"):
        return "warc"
    head = head.removeprefix(codecs.BOM_UTF8)
    start = head.lstrip()
    if start.startswith(b"{"):
        return "jsonl"
    if re.match(rb"(<\?xml[^>]*>\s*)?<mediawiki\b", start):
        return "mediawiki"
    return "text" if _is_text(head) else None


def _is_text(head: bytes) -> bool:
    """Accept UTF-8, of which the last character may be cut, without control characters."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return not re.search(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]", text)
