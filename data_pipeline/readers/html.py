"""The text of a web page, by resiliparse; its characters by the Encoding standard of the web.

Where a label comes from is as browsers do it: a byte order mark, the server's header, a declaration
in the first 1,024 bytes, else a guess.
"""

import codecs
import re
from typing import Literal

from convbert.data_pipeline.extras import load_extra
from convbert.data_pipeline.readers.records import BadRecordError

_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16le",
    codecs.BOM_UTF16_BE: "utf-16be",
}
_DECLARED = re.compile(
    rb"<meta[^>]{0,500}?charset\s*=\s*[\"']?\s*([^\s\"'/>;]+)"
    rb"|<\?xml[^>]{0,100}?encoding\s*=\s*[\"']([^\"'>]+)",
    re.I,
)
_COMMENT = re.compile(rb"<!--.*?-->", re.S)
_LOOKED_AT = 1024
# What a page declares in ASCII it is not in, by the HTML standard.
_NOT_DECLARED_SO = {"utf-16le": "utf-8", "utf-16be": "utf-8", "x-user-defined": "windows-1252"}

_DEPTH = 512  # where Chromium stops nesting
_BLOCK = re.compile(r"<(/?)(?:div|article|section|main)\b", re.I)
_LONG_TAG = re.compile(r"<[a-zA-Z][^<>]{16384,}>")
_ATTRIBUTES = 1000
_FOREIGN = re.compile(r"[^\x00-\x7f]+")


def page_decode(content: bytes, charset: str | None, where: str = "page") -> str:
    """Decode a page by its byte order mark, the server's label, its own declaration, or a guess.

    Labels are those of the WHATWG Encoding standard; an unknown one counts as none. Misfits become
    U+FFFD; a label that fits next to nothing counts as none too. Raises ``BadRecordError`` for
    encodings that the standard does not decode.
    """
    for mark, marked in _MARKS.items():
        if content.startswith(mark):
            return content.removeprefix(mark).decode(marked, "replace")
    for name in (_known(charset), _declared(content)):
        if name == "x-user-defined":  # characters of private use, which say nothing
            continue
        if name == "replacement":
            raise BadRecordError(
                f"{where}: is in an encoding that the web's standard does not decode",
                "remove it",
                "encoding that the web does not decode",
            )
        if name is not None and _fits(text := _decode(content, name)):
            return text
    encoding = load_extra("resiliparse.parse.encoding", "corpus", "reading web pages")
    return _decode(content, _known(encoding.detect_encoding(content)) or "utf-8")


def _known(label: str | None) -> str | None:
    """Return the standard's name of an encoding, or None for a label that it does not have."""
    encodings = load_extra("webencodings", "corpus", "reading web pages")
    found = encodings.lookup(label) if label and label.isascii() else None
    return None if found is None else str(found.name)


def _declared(content: bytes) -> str | None:
    found = _DECLARED.search(_COMMENT.sub(b"", content[:_LOOKED_AT]))
    if found is None:
        return None
    name = _known((found[1] or found[2]).decode("latin-1"))
    return _NOT_DECLARED_SO.get(name, name) if name else None


def _decode(content: bytes, name: str) -> str:
    encodings = load_extra("webencodings", "corpus", "reading web pages")
    text: str = encodings.lookup(name).codec_info.decode(content, "replace")[0]
    return text


def _fits(text: str) -> bool:
    """Whether most of what is not ASCII was decoded: a page may be cut, or have a few bad bytes."""
    misfits = text.count("\ufffd")
    return misfits == 0 or 2 * misfits < sum(map(len, _FOREIGN.findall(text)))


def _depth(html: str) -> int:
    """Return how deep blocks are nested, about: what closes is taken to close the last."""
    if html.count("<") <= _DEPTH:
        return 0
    depth = deepest = 0
    for tag in _BLOCK.finditer(html):
        depth = max(0, depth - 1) if tag[1] else depth + 1
        deepest = max(deepest, depth)
    return deepest


def page_text(html: str, part: Literal["main", "all"]) -> str:
    """Return paragraphs in lines: of the main content, or of everything visible.

    The time to find the main content grows with the square of the depth of blocks, and that to read
    a tag with the square of its attributes. Pages beyond what browsers lay out are taken whole,
    tags of thousands of attributes are left out.
    """
    extract = load_extra("resiliparse.extract.html2text", "corpus", "reading web pages")
    html = _LONG_TAG.sub(lambda tag: tag[0] if tag[0].count("=") < _ATTRIBUTES else "", html)
    text: str = extract.extract_plain_text(
        html,
        main_content=part == "main" and _depth(html) <= _DEPTH,
        alt_texts=False,
        list_bullets=False,
    )
    return text
