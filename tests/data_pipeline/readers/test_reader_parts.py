"""Parts of a file hold its documents, each once and in order, however it is cut."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from convbert.data_pipeline.readers import InputFile, ReaderOptions, read_file, split_file

# White space that is blank in text but not in bytes, line ends of all kinds, marks of pages.
letters = st.sampled_from(["a", "é", "你", " ", "\t", "\u3000", "\r", "x y", "&lt;page&gt;", ""])
lines = st.lists(st.lists(letters, max_size=6).map("".join), max_size=30)


def write_parquet(path: Path, values: list[str]) -> None:
    pq.write_table(pa.table({"text": pa.array(values, pa.string())}), path, row_group_size=3)


def write_dump(path: Path, values: list[str]) -> None:
    pages = (
        f"<page><title>T</title><ns>0</ns><id>{number}</id><revision><text>{value}</text>"
        "</revision></page>\n"
        for number, value in enumerate(values)
    )
    path.write_text("<mediawiki>\n" + "".join(pages) + "</mediawiki>\n")


FORMATS: dict[str, tuple[str, ReaderOptions, Callable[[Path, list[str]], object]]] = {
    "lines": (
        "a.txt",
        ReaderOptions(unit="line"),
        lambda path, values: path.write_text("\n".join(values), newline=""),
    ),
    "paragraphs": (
        "a.txt",
        ReaderOptions(unit="paragraph"),
        lambda path, values: path.write_text("\n".join(values), newline=""),
    ),
    "objects": (
        "a.jsonl",
        ReaderOptions(),
        lambda path, values: path.write_text(
            "".join(json.dumps({"text": value}) + "\n" for value in values)
        ),
    ),
    "rows": ("a.parquet", ReaderOptions(), write_parquet),
    "pages": ("a.xml", ReaderOptions(), write_dump),
}


@pytest.mark.parametrize("kind", FORMATS)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(values=lines, target=st.integers(1, 200))
@example(values=["one"] * 20 + [""] + ["two"] * 20, target=1)
@example(values=[f"{n} text" for n in range(30)], target=64)
def test_parts_hold_each_document_once_and_in_order(
    tmp_path: Path, kind: str, values: list[str], target: int
) -> None:
    name, options, write = FORMATS[kind]
    whole = InputFile(str(tmp_path / name))
    write(tmp_path / name, values)
    parts = split_file(whole, options, target)
    found = [list(read_file(part, options)) for part in parts]
    assert [d.text for documents in found for d in documents] == [
        d.text for d in read_file(whole, options)
    ]
    identities = [d.id for documents in found for d in documents]
    assert len(set(identities)) == len(identities)
    assert len({part.label for part in parts}) == len(parts)
    if values == [f"{n} text" for n in range(30)] and kind != "paragraphs":
        assert sum(map(bool, found)) > 3
        if kind != "rows":  # sizes of row groups are those of their columns
            assert sum(part.size() for part in parts) == whole.size()


def test_what_does_not_tell_where_documents_begin_is_not_cut(tmp_path: Path) -> None:
    text = "".join(f"line {number}\n\n" for number in range(1000))
    (tmp_path / "a.txt").write_text(text)
    (tmp_path / "a.csv").write_text("text\n" + text)
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(text.encode(), 0))
    for name, options in {
        "a.txt": ReaderOptions(unit="file"),
        "a.csv": ReaderOptions(),
        "b.txt.gz": ReaderOptions(unit="line"),
    }.items():
        file = InputFile(str(tmp_path / name))
        assert split_file(file, options, 500) == [file]


def test_parts_name_their_place_in_errors_and_ids(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    good = json.dumps({"text": "x" * 50}) + "\n"
    path.write_text(good * 9)
    parts = split_file(InputFile(str(path)), ReaderOptions(), 3 * len(good))
    assert [part.label for part in parts] == [str(path), *(f"{path}@{n}" for n in (189, 378))]
    ids = [document.id for document in read_file(parts[1], ReaderOptions())]
    assert ids == [f"{path}@{3 * len(good)}#{line}" for line in (1, 2, 3)]
