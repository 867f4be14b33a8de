import gzip
import json
import os
import tracemalloc
from pathlib import Path

import pytest

from convbert.data_pipeline.readers import ReaderOptions, Unit, input_files, iter_documents
from convbert.models.errors import UserError

LINES = "first line\nsecond line\n\n \nthird\r\nfourth\n"


def write(path: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def read(*inputs: str | Path, unit: Unit = "file", field: str = "text") -> list[str]:
    return [text.strip() for text in iter_documents(inputs, ReaderOptions(unit, field))]


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


@pytest.mark.parametrize("suffix", ["", ".gz"])
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
    assert text == "bad ? end, good \U0001f600"


def test_directories_and_globs_expand_in_a_fixed_order(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "sub/c.jsonl.gz", "sub/ignored.png", "z.tar"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        write(path, '{"text": "x"}')
    names = [p.relative_to(tmp_path).as_posix() for p in input_files([tmp_path])]
    assert names == ["a.txt", "b.txt", "sub/c.jsonl.gz"]
    assert input_files([f"{tmp_path}/*.txt"]) == [tmp_path / "a.txt", tmp_path / "b.txt"]
    assert input_files([f"{tmp_path}/**/*.gz"]) == [tmp_path / "sub/c.jsonl.gz"]
    assert input_files([f"{tmp_path}/s*"]) == [tmp_path / "sub/c.jsonl.gz"]
    assert input_files([tmp_path / "b.txt", tmp_path]) == [
        tmp_path / "b.txt",
        tmp_path / "a.txt",
        tmp_path / "sub/c.jsonl.gz",
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "x"}\n{"text": ', "a.jsonl, line 2: not JSON"),
        ("a.jsonl", '{"body": "x"}', "line 1: has no 'text' (found: body); set --field"),
        ("a.jsonl", '{"text": null}', "line 1: 'text' is None, not text"),
        ("a.jsonl", '["x"]', "line 1: is a list"),
        ("a.csv", "id,body\n1,x\n", "line 2: has no 'text' (found: id, body)"),
        ("a.csv", "id,text\n1,x\n2\n", "line 3: 'text' is None"),
        ("a.txt", b"caf\xe9", "byte 0xe9 is not UTF-8; convert the file"),
        ("a.txt", " \n\t\n", "no text in 1 file"),
        ("a.jsonl", "", "no text in 1 file"),
        ("a.pdf", "x", "unknown type '.pdf'; use one of .txt"),
        ("a.pdf.gz", "x", "unknown type '.pdf'"),
        ("a", "x", "unknown type ''"),
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
        with pytest.raises(UserError, match="no such file and no readable file"):
            input_files([entry])


def test_damaged_gzip_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(os.urandom(4000).hex().encode())
    flipped = whole[:1000] + bytes([whole[1000] ^ 0xFF]) + whole[1001:]
    for content in (whole[:2000], flipped, b"plain text"):
        path = tmp_path / "a.txt.gz"
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"a\.txt\.gz: damaged or not gzip"):
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
