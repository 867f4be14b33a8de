"""A server's answer as a crawl stored it: headers and body, of which either may be untrue.

Servers and crawlers name codings that a stored body does not have, end lines in their own ways and
cut bodies off. What browsers make of such an answer, fastwarc does for the most part; chunks, two
names of gzip and a kind of ``deflate`` that it does not know are met here first.
"""

import re
import zlib
from typing import Any

from convbert.data_pipeline.extras import load_extra
from convbert.data_pipeline.readers.records import BadRecordError

# Where decoding by all codings fails, some of them are taken to be untrue.
_DECODINGS = ("all", "transfer", "content", "none")
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_CODING = re.compile(rb"(transfer|content)-encoding[ \t]*:(.*)", re.I | re.S)
_CHUNK = re.compile(rb"(?:\r?\n)?([0-9a-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n", re.I)


def read_answer(content: bytes, where: str, limit: int) -> tuple[Any, bytes]:
    """Return headers and body of an answer, decoded as far as its headers are true.

    Raises ``BadRecordError`` for what is no answer, and for a body that cannot be decoded.
    ``limit`` bounds what is unpacked here.
    """
    if not content.startswith(b"HTTP/"):
        raise BadRecordError(f"{where}: holds no answer of a server", "remove it", "no HTTP answer")
    warc = load_extra("fastwarc.warc", "corpus", f"{where}: reading WARC")
    content = _usual(content, limit)
    reason = ""
    for decoding in _DECODINGS:
        record = warc.WarcRecord()
        record.set_bytes_content(content)
        record.is_http = True
        try:
            record.parse_http(auto_decode=decoding)
            body = record.reader.read()
        except OSError as error:
            reason = reason or " ".join(str(error).split())
            continue
        if reason and _BINARY.search(body, 0, 1024):
            break
        return record.http_headers, body
    raise BadRecordError(
        f"{where}: its body cannot be decoded ({reason:.200})",
        "remove it",
        "body cannot be decoded",
    )


def _usual(content: bytes, limit: int) -> bytes:
    """Return an answer with the line ends and codings that fastwarc knows."""
    end = _BLANK_LINE.search(content)
    head, body = (content[: end.start()], content[end.end() :]) if end else (content, b"")
    lines = []
    for line in head.splitlines():
        if found := _CODING.fullmatch(line):
            names = [name.strip().lower() for name in found[2].split(b",")]
            names = [name.removeprefix(b"x-") for name in names]
            if names[-1] == b"chunked" and (joined := _joined(body)) is not None:
                names, body = names[:-1], joined
            if names == [b"deflate"] and (inflated := _inflated(body, limit)) is not None:
                names, body = [], inflated
            line = found[1] + b"-Encoding: " + b", ".join(names)
            if not names:
                continue
        lines.append(line)
    return b"\r\n".join([*lines, b"", body])


def _joined(body: bytes) -> bytes | None:
    """Return the content of chunks, of a body that was cut off as far as it goes; else None."""
    parts: list[bytes] = []
    place = 0
    while found := _CHUNK.match(body, place):
        size = int(found[1], 16)
        place = found.end() + size
        parts.append(body[found.end() : place])
        if size == 0 or place >= len(body):
            return b"".join(parts)
    return b"".join([*parts, body[place:].strip()]) if parts and place < len(body) else None


def _inflated(body: bytes, limit: int) -> bytes | None:
    """Return what ``deflate`` without zlib's header holds, as some servers send it; else None."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(body, limit + 1)
    except zlib.error:
        return None
