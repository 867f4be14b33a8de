"""Whatever a file holds, readers give documents that can be stored, or one line that names it.

Valid files of every format, with the strange things that people found in real ones, are cut,
flipped, joined and spliced. ``make fuzz`` does so for its share of FUZZ_MINUTES and writes what
fails to ``tests/data_pipeline/readers/fuzz_seeds``, whose files every later run reads first.
"""

import bz2
import gzip
import json
import lzma
import random
import time
import zlib
from pathlib import Path

import pytest
from backports import zstd
from fuzzing import for_a_while
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from text_formats import WRITERS, answer, dump, page, record

from convbert.data_pipeline.documents import StageReport
from convbert.data_pipeline.readers import InputFile, ReaderOptions, read_file, split_file
from convbert.models.errors import UserError

SEEDS = Path(__file__).parent / "fuzz_seeds"
HTML = "Content-Type: text/html; charset="

TEXTS = ["first text", 'naïve, "second"', "\ttabs\r\nand 你好 \U0001f600", "third " * 20]
VALID: dict[str, list[bytes]] = {
    **{kind: [write(TEXTS)] for kind, write in WRITERS.items()},
    "tsv": [b"text\tn\n" + b"a b\t1\n" * 5 + "naïve\t2\n".encode()],
    "xml": [
        dump(
            page(1, "'''A''' [[b|c]] {{d|e=[[f]]}} &#xD83D; <ref>g</ref> -{h}-"),
            page(2, "#REDIRECT [[A]]", extra='<redirect title="A" />'),
            page(3, "{|\n| x\n|}\n== y ==\n* z <math>1</math> [http://a b]", title="T & U"),
        )
    ],
}
VALID["jsonl"].append(b'{"text":"a","n":' + b"1" * 5000 + b'}\n{"text":"\\ud800","n":[1e999]}\n')
VALID["warc"].append(
    record("warcinfo", b"software: x", "application/warc-fields")
    + answer("<p>naïve</p>".encode(), HTML + "utf-8mb4")
    + answer(gzip.compress(b"<p>packed</p>"), HTML + "utf-8\r\nContent-Encoding: gzip")
    + answer(b"5\r\n<p>x \r\n0\r\n\r\n", HTML + "x-sjis\r\nTransfer-Encoding: chunked")
    + answer('<meta charset="euc-kr"><p>한국어</p>'.encode("cp949"), "Content-Type: text/html")
    + answer(b"<div>" * 50, HTML + "utf-16")
    + answer(b"5;a=b\n<p>x \nff\ncut", HTML + "utf-8\nTransfer-Encoding: chunked")
    + answer(zlib.compress(b"<p>bare</p>")[2:-4], HTML + "utf-8\r\nContent-Encoding: x-deflate")
    + record("resource", b"<p>of its own</p>", "text/html")
)
COMPRESS = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lambda content: lzma.compress(content, preset=0),
    ".zst": zstd.compress,
}
# What breaks programs: ends, signs, numbers beyond types, escapes of no character, tags, headers.
TOKENS = [
    b"\0", b"\n", b"\r\n\r\n", b'"', b"\\", b"\xff", b"\xc3", b"\xef\xbb\xbf", b"\xff\xfe", b"{",
    b"]", b"[" * 2000, b",", b"-1", b"99999999999999999999", b"1" * 4400, b"NaN", b"null",
    b"\\ud800", b"\xed\xa0\x80", b"&#xD83D;", b"&#x110000;", b"&amp;#0;", b"<page>", b"</page>",
    b"<!--", b"]]>", b"<![CDATA[", b"{{", b"[[", b"<ref>", b"<div>" * 600, b"charset=utf-7",
    b"Content-Length: -5\r\n", b"Content-Encoding: br\r\n", b"Transfer-Encoding: chunked\r\n",
    b"WARC/1.0\r\n", b"PAR1", b"HTTP/1.1 200 OK\r\n\r\n", b"\x1f\x8b",
]  # fmt: skip
OPTIONS = [
    ReaderOptions(),
    ReaderOptions(on_bad_record="skip", max_megabytes=1),
    ReaderOptions(on_bad_record="stop", unit="line", id_field="id", meta_fields=("n", "id")),
    ReaderOptions(on_bad_record="skip", invalid="replace", unit="paragraph", html="all"),
    ReaderOptions(encoding="cp1252", quotes=False, on_bad_record="skip"),
]


def check(path: Path, options: ReaderOptions) -> None:
    """Read a file, whole and in parts: the documents can be stored, and errors are one line."""
    try:
        whole = InputFile(str(path))
        for file in {whole: None, **dict.fromkeys(split_file(whole, options, 300))}:
            report = StageReport(stage="read")
            for document in read_file(file, options, lambda bad: bad.count(report)):  # noqa: B023
                stored = [document.id, document.text, document.source, dict(document.meta)]
                json.dumps(stored, ensure_ascii=False).encode()
                assert document.text.strip()
            report.model_dump_json().encode()
            samples = [s for held in report.samples.values() for s in held]
            assert all(s.detail.startswith(str(path)) for s in samples)
            assert sum(report.dropped.values()) == report.documents_in
    except UserError as error:
        message = str(error)
        message.encode()
        assert message.startswith(str(path)), message


def mutated(choice: random.Random, kind: str) -> tuple[str, bytes]:
    """Return the name and the content of a file that was valid once."""
    content = bytearray(choice.choice(VALID[kind]))
    suffix = choice.choice(["", "", "", *COMPRESS])
    inside = bool(suffix) and choice.random() < 0.5
    if inside:
        content = bytearray(COMPRESS[suffix](bytes(content)))
    for _ in range(choice.choice([1, 1, 2, 3, 8])):
        place = choice.randrange(len(content) + 1)
        end = min(len(content), place + choice.choice([0, 1, 2, 8, 64]))
        match choice.randrange(5):
            case 0 if content:
                content[place % len(content)] = choice.randrange(256)
            case 1:
                content[place:end] = choice.choice(TOKENS)
            case 2:
                content[place:end] = b""
            case 3:
                content[place:place] = content[place:end] * choice.choice([1, 2, 50])
            case _:
                other = choice.choice(VALID[choice.choice(list(VALID))])
                start = choice.randrange(len(other))
                content[place:end] = other[start : start + choice.choice([1, 16, 256])]
    if choice.random() < 0.1:
        del content[choice.randrange(len(content) + 1) :]
    name = choice.choice([f"a.{kind}", f"a.{kind}", "part-00000"]) + suffix
    return name, bytes(content) if inside else COMPRESS[suffix](bytes(content))


@pytest.mark.parametrize("kind", VALID)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(choice=st.randoms(use_true_random=False), options=st.sampled_from(OPTIONS))
def test_no_traceback_whatever_a_file_holds(
    tmp_path: Path, kind: str, choice: random.Random, options: ReaderOptions
) -> None:
    name, content = mutated(choice, kind)
    path = tmp_path / name
    path.write_bytes(content)
    check(path, options)


@pytest.mark.parametrize("seed", sorted(SEEDS.glob("*")), ids=lambda path: path.name)
def test_what_once_failed(tmp_path: Path, seed: Path) -> None:
    path = tmp_path / seed.name.partition("-")[2]
    path.write_bytes(seed.read_bytes())
    for options in OPTIONS:
        check(path, options)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_no_traceback_for_a_while(tmp_path: Path) -> None:
    """Each file follows from its number."""

    def read(number: int) -> None:
        choice = random.Random(number)
        name, content = mutated(choice, choice.choice(list(VALID)))
        path = tmp_path / name
        path.write_bytes(content)
        started = time.monotonic()
        try:
            check(path, choice.choice(OPTIONS))
            assert time.monotonic() - started < 60
        except Exception:
            SEEDS.mkdir(exist_ok=True)
            (SEEDS / f"{number}-{name}").write_bytes(content)
            raise
        finally:
            path.unlink()

    for_a_while(read)
