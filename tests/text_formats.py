"""Writers of the formats that the readers know, for tests."""

import json
from xml.sax.saxutils import escape

import pyarrow as pa
import pyarrow.parquet as pq


def record(kind: str, content: bytes, media: str, url: str = "http://example.org/") -> bytes:
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nWARC-Date: "
        f"2026-01-02T03:04:05Z\r\nContent-Type: {media}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content + b"\r\n\r\n"


def answer(content: bytes, headers: str, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\n{headers}\r\n\r\n".encode()
    return record("response", head + content, "application/http; msgtype=response")


def page(number: int, text: str, title: str = "T", extra: str = "", space: int = 0) -> str:
    return (
        f"<page><title>{escape(title)}</title><ns>{space}</ns><id>{number}</id>{extra}<revision>"
        f"<id>9{number}</id><model>wikitext</model><text>{escape(text)}</text></revision></page>"
    )


def dump(*pages: str) -> bytes:
    space = "http://www.mediawiki.org/xml/export-0.11/"
    head = f'<mediawiki xmlns="{space}" version="0.11"><siteinfo><sitename>W</sitename></siteinfo>'
    return (head + "".join(pages) + "</mediawiki>").encode()


def parquet(values: list[str]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": list(range(len(values))), "text": values}), sink)
    return sink.getvalue().to_pybytes()


WRITERS = {
    "txt": lambda values: "\n".join(values).encode(),
    "jsonl": lambda values: "".join(json.dumps({"text": v}) + "\n" for v in values).encode(),
    "csv": lambda values: "\r\n".join(
        ["text,n", *('"{}",1'.format(v.replace('"', '""')) for v in values)]
    ).encode(),
    "parquet": parquet,
    "warc": lambda values: b"".join(record("conversion", v.encode(), "text/plain") for v in values),
}
