"""Speed of reading, cleaning and filtering, and memory of reading.

``python -m tests.benchmarks.bench_text stages FILES...`` and ``... memory FILES...``.
"""

import gzip
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated
from xml.sax.saxutils import escape

import pyarrow as pa
import pyarrow.parquet as pq
import typer
from backports import zstd

from convbert.data_pipeline.documents import Document, StageReport
from convbert.data_pipeline.filters.corpus_settings import CorpusConfig
from convbert.data_pipeline.readers import ReaderOptions, iter_documents, read_documents

CHUNK_CHARACTERS = 4 << 20
POOL_DOCUMENTS = 10_000
BLANK, NEWLINE = r"\n\s*\n", "\n"
CONTROL = r"[\x00-\x08\x0b-\x1f]"  # XML cannot hold them
app = typer.Typer(help=__doc__)


def chunks(documents: Iterator[Document]) -> Iterator[tuple[list[Document], float]]:
    """Yield groups of documents with the CPU seconds that reading them took."""
    while True:
        started = time.process_time()
        group: list[Document] = []
        size = 0
        for document in documents:
            group.append(document)
            size += len(document.text)
            if size >= CHUNK_CHARACTERS:
                break
        if not group:
            return
        yield group, time.process_time() - started


@app.command()
def stages(files: list[str], unit: str = "file") -> None:
    """Print MB/s of CPU time in this one process, and what each stage dropped."""
    options = ReaderOptions.model_validate({"unit": unit})
    stages = CorpusConfig(inputs=tuple(files)).stages()
    for stage in stages:
        stage(
            [Document("warm-up", "The first call loads packages and models, and that is all.", "")]
        )
    seconds: dict[str, float] = {}
    reports: dict[str, StageReport] = {}
    for group, reading in chunks(read_documents(files, options)):
        seconds["read"] = seconds.get("read", 0) + reading
        for stage in stages:
            started = time.process_time()
            group, report = stage(group)
            name = report.stage
            seconds[name] = seconds.get(name, 0) + time.process_time() - started
            reports[name] = reports[name].merge(report) if name in reports else report
    first, *_, last = reports.values()
    size = first.bytes_in / 1e6
    print(f"read        {size:8.1f} MB {size / seconds.pop('read'):7.1f}/s")
    for name, report in reports.items():
        print(
            f"{name:<11} {report.bytes_in / 1e6:8.1f} MB "
            f"{report.bytes_in / 1e6 / seconds[name]:7.1f}/s, {report.documents_in:,} -> "
            f"{report.documents_out:,} documents; changed {report.changed}; "
            f"dropped {report.dropped}"
        )
    rate = size / sum(seconds.values())
    print(f"kept        {last.bytes_out / 1e6:8.1f} MB; clean and filter {rate:.1f} MB/s")


def repeated(pool: list[str], megabytes: int) -> Iterator[str]:
    """Yield texts again and again until there are so many megabytes."""
    size = 0
    for text in cycle(pool):
        yield text
        size += len(text.encode())
        if size >= megabytes * 1e6:
            return


def write_jsonl(path: Path, texts: Iterator[str]) -> None:
    """Write Zstandard frames of many lines; equal ones are compressed once."""
    frames: dict[bytes, bytes] = {}
    with path.open("wb") as file:
        while lines := [json.dumps({"text": text}) for text in islice(texts, POOL_DOCUMENTS)]:
            content = ("\n".join(lines) + "\n").encode()
            key = hashlib.sha256(content).digest()
            if key not in frames:
                frames[key] = zstd.compress(content)
            file.write(frames[key])


def write_text(path: Path, texts: Iterator[str]) -> None:
    with gzip.open(path, "wt", compresslevel=1) as file:
        file.writelines(f"{re.sub(BLANK, NEWLINE, text)}\n\n" for text in texts)


def write_wet(path: Path, texts: Iterator[str]) -> None:
    with path.open("wb") as file:
        for text in texts:
            content = text.encode()
            head = "WARC/1.0\r\nWARC-Type: conversion\r\nContent-Type: text/plain\r\n"
            head += f"Content-Length: {len(content)}\r\n\r\n"
            file.write(gzip.compress(head.encode() + content + b"\r\n\r\n", 1))


def write_dump(path: Path, texts: Iterator[str]) -> None:
    with gzip.open(path, "wt", compresslevel=1) as file:
        file.write("<mediawiki>")
        for number, text in enumerate(texts):
            revision = f"<revision><text>{escape(re.sub(CONTROL, ' ', text))}</text></revision>"
            file.write(f"<page><title>T</title><ns>0</ns><id>{number}</id>{revision}</page>\n")
        file.write("</mediawiki>")


def write_parquet(path: Path, texts: Iterator[str]) -> None:
    schema = pa.schema([("text", pa.string())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while rows := [text for _, text in zip(range(4096), texts, strict=False)]:
            writer.write_table(pa.table({"text": rows}, schema))


WRITERS: dict[str, Callable[[Path, Iterator[str]], None]] = {
    "a.jsonl.zst": write_jsonl,
    "a.txt.gz": write_text,
    "a.wet.gz": write_wet,
    "a.xml.gz": write_dump,
    "a.parquet": write_parquet,
}


@app.command()
def memory(
    files: Annotated[list[str], typer.Argument(help="Real text, repeated to the wanted size.")],
    megabytes: Annotated[list[int], typer.Option(help="Sizes of the text.")] = [200, 1000],  # noqa: B006
    name: Annotated[list[str], typer.Option(help="Kinds of files.")] = [],  # noqa: B006
) -> None:
    """Print the peak resident memory of reading files of growing size, a process each."""
    pool = list(islice(iter_documents(files), POOL_DOCUMENTS))
    with tempfile.TemporaryDirectory() as folder:
        for kind in name or WRITERS:
            peaks = []
            for size in megabytes:
                path = Path(folder, kind)
                WRITERS[kind](path, repeated(pool, size))
                stored = path.stat().st_size
                command = [sys.executable, "-m", "tests.benchmarks.bench_text", "read", str(path)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                peaks.append(f"{size} MB ({stored / 1e6:.0f} stored): peak {done.stdout.strip()}")
                path.unlink()
            print(f"{kind:<12} {'; '.join(peaks)}", flush=True)


@app.command()
def read(path: str) -> None:
    """Read a file and print the peak resident memory and the time."""
    started = time.process_time()
    size = sum(map(len, iter_documents([path], ReaderOptions(unit="paragraph"))))
    seconds = time.process_time() - started
    # getrusage would count the process that started this one, too.
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(f"{int(line) / 1024:.0f} MiB, {size / 1e6 / seconds:.0f} MB/s")


if __name__ == "__main__":
    app()
