import bz2
import errno
import gzip
import json
import lzma
import random
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import fsspec
import pytest
from backports import zstd
from pydantic import ValidationError

from convbert.data_pipeline.documents import Document
from convbert.data_pipeline.readers import (
    InputFile,
    ReaderOptions,
    Unit,
    input_files,
    iter_documents,
    read_documents,
    read_file,
)
from convbert.models.errors import AbsentError, DamagedError, TransientError, UserError

# As the zstd tool writes, but not its libraries by default: without it damage goes unseen.
CHECKED = {zstd.CompressionParameter.checksum_flag: 1}
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lambda content: lzma.compress(content, preset=0),
    ".zst": lambda content: zstd.compress(content, options=CHECKED),
}
LINES = "first line\nsecond line\n\n \nthird\r\nfourth\n"


def write(path: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(COMPRESS.get(path.suffix, bytes)(data))
    return path


def names(*inputs: str | Path) -> list[str]:
    return [file.name for file in input_files(inputs)]


def read(*inputs: str | Path, unit: Unit = "file", field: str = "text") -> list[str]:
    return [text.strip() for text in iter_documents(inputs, ReaderOptions(unit=unit, field=field))]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.md"])
@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("file", [LINES.strip()]),
        ("line", ["first line", "second line", "third", "fourth"]),
        ("paragraph", ["first line\nsecond line", "third\r\nfourth"]),
    ],
)
def test_text_units(tmp_path: Path, name: str, unit: Unit, expected: list[str]) -> None:
    assert read(write(tmp_path / name, LINES), unit=unit) == expected


@pytest.mark.parametrize("suffix", COMPRESS)
def test_no_stream_of_several_is_lost(tmp_path: Path, suffix: str) -> None:
    streams = [COMPRESS[suffix](b"%d one\n%d two\n" % (n, n)) for n in range(3)]
    path = tmp_path / f"a.txt{suffix}"
    padding = b"" if suffix == ".zst" else bytes(512)
    path.write_bytes(streams[0] + padding + streams[1] + streams[2] + padding)
    assert read(path, unit="line") == [f"{n} {w}" for n in range(3) for w in ("one", "two")]
    path.write_bytes(streams[0] + b"\x01" + streams[1][1:] + streams[2])
    with pytest.raises(DamagedError, match=r"damaged .*; fetch it again"):
        read(path, unit="line")


@pytest.mark.parametrize("suffix", ["", *COMPRESS])
def test_json_lines_and_tables_hold_any_text(tmp_path: Path, suffix: str) -> None:
    texts = ['a "quoted", text', "two\nlines", "naïve 你好 \U0001f600"]
    records = [json.dumps({"body": t, "id": 1}) for t in texts]
    quoted = ['1,"{}"'.format(t.replace('"', '""')) for t in texts]
    files = [
        write(tmp_path / f"a.jsonl{suffix}", "\n".join(records) + "\n\n"),
        write(tmp_path / f"b.csv{suffix}", "\n".join(["id,body", *quoted])),
        write(tmp_path / f"c.tsv{suffix}", "\n".join(["id,body", *quoted]).replace(",", "\t", 1)),
    ]
    assert read(*files[:2], field="body") == texts * 2


def test_a_tab_separates_columns_of_tsv(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.tsv", "text\tid\nyes, indeed\t1\n")) == ["yes, indeed"]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl", "a.csv.gz"])
def test_a_byte_order_mark_is_no_text(tmp_path: Path, name: str) -> None:
    content = {".txt": "hi", ".jsonl": '{"text": "hi"}', ".csv": "text\nhi\n"}
    path = tmp_path / name
    kind = path.suffixes[0]
    assert read(write(path, b"\xef\xbb\xbf" + content[kind].encode())) == ["hi"]


def test_a_document_may_be_longer_than_the_csv_default(tmp_path: Path) -> None:
    text = "word " * 60_000
    assert read(write(tmp_path / "a.csv", f"text\n{text}\n")) == [text.strip()]


def test_half_a_surrogate_pair_cannot_stop_a_build(tmp_path: Path) -> None:
    line = r'{"text": "bad \ud83d end, good \ud83d\ude00"}'
    (text,) = read(write(tmp_path / "a.jsonl", line))
    assert text == "bad \ufffd end, good \U0001f600"


def test_directories_and_globs_expand_in_a_fixed_order(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "sub/c.jsonl.gz", "sub/ignored.png", "z.tar"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        write(path, '{"text": "x"}')
    a, b, c = (str(tmp_path / name) for name in ("a.txt", "b.txt", "sub/c.jsonl.gz"))
    assert names(tmp_path) == [a, b, c]
    assert names(f"{tmp_path}/*.txt") == [a, b]
    assert names(f"{tmp_path}/**/*.gz") == names(f"{tmp_path}/s*") == [c]
    assert names(tmp_path / "b.txt", tmp_path) == [b, a, c]


def test_urls_are_files_directories_and_globs_too(tmp_path: Path) -> None:
    files = fsspec.filesystem("memory")
    for name in ("b.txt", "a.txt.gz", "deep/c.txt", "ignored.png"):
        content = f"in {name}".encode()
        files.pipe(f"/readers/{name}", gzip.compress(content) if ".gz" in name else content)
    url = "memory://readers"
    assert read(url) == ["in a.txt.gz", "in b.txt", "in deep/c.txt"]
    assert read(f"{url}/*.txt") == ["in b.txt"]
    assert [d.id for d in read_documents([f"{url}/b.txt"])] == [f"{url}/b.txt#1"]
    local = write(tmp_path / "d.txt.zst", "here")
    assert read(f"file://{local}", f"{url}/b.txt") == ["here", "in b.txt"]
    for entry in (f"{url}/no.txt", f"{url}/*.csv", "memory://empty"):
        with pytest.raises(AbsentError, match=f"{re.escape(entry)}: no such file"):
            input_files([entry])
    with pytest.raises(UserError, match=r"^gone://x: cannot be opened \(Protocol not known"):
        input_files(["gone://x"])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"text": "json"}\n', "json"),
        (b'\xef\xbb\xbf{"text": "json"}\n', "json"),
        ("naïve text\n".encode() * 1000, ("naïve text\n" * 1000).strip()),
        (b'<mediawiki><page><revision><text>A "wiki"</text></revision></page></mediawiki>', None),
    ],
)
@pytest.mark.parametrize("name", ["download", "a.part"])
def test_files_without_a_telling_name_are_sniffed(
    tmp_path: Path, name: str, content: bytes, expected: str | None
) -> None:
    for compress in (bytes, *COMPRESS.values()):
        path = write(tmp_path / name, compress(content))
        assert read(path) == [expected or 'A "wiki"']


def test_ids_are_positions_or_fields_and_meta_goes_along(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '\n{"text": "x", "k": "one", "n": [1], "u": 0}\n')
    assert list(read_documents([path])) == [Document(f"{path}#2", "x", str(path), {})]
    options = ReaderOptions(id_field="k", meta_fields=("n", "absent"))
    assert list(read_documents([path], options)) == [Document("one", "x", str(path), {"n": [1]})]
    text = write(tmp_path / "a.txt", LINES)
    places = [d.id.split("#")[1] for d in read_documents([text], ReaderOptions(unit="paragraph"))]
    assert places == ["1", "5"]


def test_other_encodings_and_broken_bytes_are_read_on_request(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"ok\ncaf\xe9\n")
    (text,) = iter_documents([path], ReaderOptions(encoding="latin-1"))
    assert text == "ok\ncafé\n"
    (text,) = iter_documents([path], ReaderOptions(invalid="replace"))
    assert text == "ok\ncaf\ufffd\n"
    with pytest.raises(UserError, match=r"a\.txt, line 2: byte 0xe9 at 3 is not UTF-8"):
        list(iter_documents([path], ReaderOptions(unit="line")))
    for encoding in ("utf-16", "klingon"):
        with pytest.raises(ValidationError, match="no known superset of ASCII"):
            ReaderOptions(encoding=encoding)


@pytest.mark.parametrize("unit", ["file", "line", "paragraph"])
def test_an_endless_document_is_an_error_and_not_out_of_memory(tmp_path: Path, unit: Unit) -> None:
    path = write(tmp_path / "a.txt.zst", ("word " * 20 + "\n" * (unit == "paragraph")) * 11_000)
    with pytest.raises(UserError, match=r"a\.txt\.zst.*: one document of more than 1 MB; split"):
        list(iter_documents([path], ReaderOptions(unit=unit, max_megabytes=1)))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "x"}\n{"text": ', "a.jsonl, line 2: not JSON"),
        ("a.jsonl", '{"body": "x"}', "line 1: has no 'text' (found: body); set --field"),
        ("a.jsonl", '{"text": null}', "line 1: 'text' is None, not text"),
        ("a.jsonl", '["x"]', "line 1: is a list"),
        ("a.csv", "id,body\n1,x\n", "line 1: has no 'text' (found: id, body)"),
        ("a.csv", "id,text\n1,x\n2\n", "line 3: 'text' is None"),
        ("a.csv", "id,text\n1,x,,\n2,yes, no\n", "line 3: has 3 fields for 2 column(s), ' no' is"),
        ("a.csv", 'text\n"never closed\n', "line 2: damaged table (unexpected end of data)"),
        ("a.txt", b"caf\xe9", "byte 0xe9 at 3 is not UTF-8; convert the file"),
        ("a.jsonl", b'{"text": "ok"}\n{"text": "caf\xe9"}', "line 2: byte 0xe9 at 13 is not UTF-8"),
        ("a.txt", " \n\t\n", "no text in 1 file"),
        ("a.jsonl", "", "no text in 1 file"),
        ("a.pdf", b"%PDF-1.7\n\xe2\xe3\xcf\xd3", "tells a known format; use one of .txt"),
        ("a.bin.gz", b"\0\1", "tells a known format"),
        ("a.txt.gz", "", "no text in 1 file"),
        ("a.parquet", "", "no text in 1 file"),
    ],
)
def test_unusable_files_are_named(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(UserError) as caught:
        read(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_input_is_named(tmp_path: Path) -> None:
    for entry in (tmp_path / "no.txt", tmp_path / "*.txt", tmp_path):
        with pytest.raises(AbsentError, match="no such file and no readable file"):
            input_files([entry])


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FileNotFoundError(errno.ENOENT, "gone"), AbsentError),
        (OSError(errno.EIO, "Input/output error"), TransientError),
        (PermissionError(errno.EACCES, "Permission denied"), UserError),
    ],
)
def test_what_may_pass_is_told_from_what_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, kind: type[UserError]
) -> None:
    file = InputFile(str(write(tmp_path / "a.txt", "text")))

    def refuse(_: InputFile) -> BinaryIO:
        raise error

    monkeypatch.setattr(InputFile, "open", refuse)
    with pytest.raises(UserError, match=r"a\.txt: ") as caught:
        list(read_file(file, ReaderOptions()))
    assert type(caught.value) is kind


@pytest.mark.parametrize("suffix", COMPRESS)
def test_damaged_compressed_files_are_named_with_the_place(tmp_path: Path, suffix: str) -> None:
    rng = random.Random(0)
    lines = [json.dumps({"text": f"{i} {rng.random()}"}) for i in range(40_000)]
    whole = write(tmp_path / f"a.jsonl{suffix}", "\n".join(lines)).read_bytes()
    half = len(whole) // 2
    flipped = whole[:half] + bytes([whole[half] ^ 0xFF]) + whole[half + 1 :]
    for content in (whole[: half * 3 // 2], flipped):
        path = tmp_path / f"b.jsonl{suffix}"
        path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            read(path)
        pattern = r"b\.jsonl\.\w+(: damaged behind .*b\.jsonl\.\w+#\d+ \(|, line \d+: not JSON)"
        assert re.search(pattern, str(caught.value))
    path.write_bytes(b"plain text")
    with pytest.raises(DamagedError, match=r"b\.jsonl\.\w+: damaged \(.*\); fetch it again"):
        read(path)


def test_reading_holds_one_document_at_a_time(tmp_path: Path) -> None:
    line = json.dumps({"text": "word " * 2000}) + "\n"
    path = write(tmp_path / "a.jsonl.gz", line * 2000)
    tracemalloc.start()
    try:
        count = sum(1 for _ in iter_documents([path]))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 2000
    assert peak < 2_000_000 < 2000 * len(line)
