"""Input that nobody checked: false labels and headers, bad bytes, impossible escapes."""

import gzip
import json
import logging
import os
import pickle
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from text_formats import answer, dump, page, record
from webencodings.labels import LABELS

from convbert.data_pipeline.documents import Document, StageReport, encodable
from convbert.data_pipeline.readers import (
    BadRecordError,
    ReaderOptions,
    iter_documents,
    read_documents,
)
from convbert.models.errors import UserError

HTML = "Content-Type: text/html"

# Labels and encodings of the WHATWG Encoding standard, and text that tells the encoding from its
# older namesakes: characters of Windows' extensions, of Hong Kong, of GB 18030.
STANDARD = [
    ("utf8", "utf-8", "naïve 你好"),
    ("latin1", "cp1252", "“naïve” – 5 €"),
    ("iso-8859-1", "cp1252", "“naïve” – 5 €"),
    ("us-ascii", "cp1252", "“naïve” – 5 €"),
    ("x-sjis", "cp932", "これは①番の文章です。"),
    ("windows-31j", "cp932", "これは①番の文章です。"),
    ("Shift_JIS", "cp932", "これは①番の文章です。"),
    ("iso-2022-jp", "iso2022_jp", "これは日本語の文章です。"),
    ("x-euc-jp", "euc_jp", "これは日本語の文章です。"),
    ("iso-8859-8-i", "iso8859_8", "שלום עולם, זה טקסט"),
    ("logical", "iso8859_8", "שלום עולם, זה טקסט"),
    ("euc-kr", "cp949", "똠방각하와 펲시콜라를 한국어로 썼다."),
    ("ks_c_5601-1987", "cp949", "똠방각하와 펲시콜라를 한국어로 썼다."),
    ("gb2312", "gb18030", "这是镕基先生写的中文"),
    ("big5", "big5hkscs", "呢篇文章係廣東話寫嘅，佢哋啲嘢"),
    ("tis-620", "cp874", "ภาษาไทย “ข้อความ”"),
    ("x-mac-cyrillic", "mac_cyrillic", "Это русский текст"),
    ("koi8-u", "koi8_u", "Це український текст, її"),
    ("windows-1258", "cp1258", "Tiêng Viêt là ngôn ngư"),
    ("dos-874", "cp874", "ภาษาไทย “ข้อความ”"),
    ("utf-16", "utf-16-le", "naïve 你好"),
]
# What no browser knows: other names, other families of Python's codecs, headers gone wrong.
UNKNOWN = [
    "utf-8mb4", "none", "", "klingon", "cp037", "utf-7", "rot13", "zlib_codec", "base64",
    "unicode_escape", "idna", "punycode", "undefined", "utf-8 ", "utf-8,utf-8", "ÿÿ", "x" * 3000,
]  # fmt: skip


def read(path: Path, content: bytes, **options: object) -> list[str]:
    path.write_bytes(content)
    return [text.strip() for text in iter_documents([path], ReaderOptions.model_validate(options))]


@pytest.mark.parametrize(("label", "encoding", "text"), STANDARD)
def test_labels_mean_what_the_standard_says(
    tmp_path: Path, label: str, encoding: str, text: str
) -> None:
    body = f"<p>{text}</p>".encode(encoding)
    assert read(tmp_path / "a.warc", answer(body, f"{HTML}; charset={label}")) == [text]
    quoted = answer(body, f'{HTML}; charset="{label.upper()}"; charset=x')
    assert read(tmp_path / "b.warc", quoted) == [text]


def test_every_label_is_read_or_passed_over_and_unknown_ones_count_as_none(tmp_path: Path) -> None:
    text = "naïve, “quoted” text, zwölf Größen und ein déjà-vu"
    good = answer(f"<p>{text}</p>".encode(), HTML)
    for label in LABELS:
        found = read(tmp_path / "a.warc", answer(b"<p>x</p>", f"{HTML}; charset={label}") + good)
        assert found[-1] == text
    for label in UNKNOWN:
        content = answer(f"<p>{text}</p>".encode(), f"{HTML}; charset={label}")
        assert read(tmp_path / "a.warc", content) == [text], label


@pytest.mark.parametrize(
    "declared",
    [
        '<meta charset="{}">',
        "<META CHARSET={} >",
        '<meta http-equiv="Content-Type" content="text/html; charset={}">',
        '<!-- <meta charset="koi8-r"> --><meta name="x"><meta charset=\'{}\' />',
    ],
)
@pytest.mark.parametrize(("label", "encoding", "text"), STANDARD[4:-1])
def test_a_declaration_in_the_page_is_read(
    tmp_path: Path, declared: str, label: str, encoding: str, text: str
) -> None:
    html = f"<html><head>{declared.format(label)}</head><body><p>{text}</p></body></html>"
    for header in (HTML, f"{HTML}; charset=unheard-of"):
        assert read(tmp_path / "a.warc", answer(html.encode(encoding), header)) == [text]


def test_the_server_and_marks_come_before_the_declaration(tmp_path: Path) -> None:
    html = '<meta charset="koi8-r"><p>größer</p>'
    for content, header in [
        (html.encode("cp1252"), f"{HTML}; charset=latin1"),
        (b"\xef\xbb\xbf" + html.encode(), f"{HTML}; charset=latin1"),
        (b"\xff\xfe" + html.encode("utf-16-le"), HTML),
    ]:
        assert read(tmp_path / "a.warc", answer(content, header)) == ["größer"]


def test_one_bad_byte_costs_one_character_and_a_false_label_nothing(tmp_path: Path) -> None:
    korean = "한국어 문장이 여기에 있습니다. " * 5
    cut = f"<p>{korean}</p>".encode("cp949")[:-6]
    (found,) = read(tmp_path / "a.warc", answer(cut + b"\xff\xff", f"{HTML}; charset=euc-kr"))
    assert found.startswith(korean[:60])
    lie = answer("<p>Größe, Übung, Ärger, schön</p>".encode("cp1252"), f"{HTML}; charset=utf-8")
    assert read(tmp_path / "a.warc", lie) == ["Größe, Übung, Ärger, schön"]


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ("Content-Encoding: gzip", b"<p>as it is</p>", ["as it is"]),
        ("Content-Encoding: br", b"<p>as it is</p>", ["as it is"]),
        ("Content-Encoding: unheard-of", b"<p>as it is</p>", ["as it is"]),
        ("Transfer-Encoding: chunked", b"<p>as it is</p>", ["as it is"]),
        ("Transfer-Encoding: chunked", b"f\r\n<p>in chunk</p>\r\n0\r\n\r\n", ["in chunk"]),
        (
            "Transfer-Encoding: chunked\r\nContent-Encoding: gzip",
            gzip.compress(b"<p>as it is</p>", mtime=0),
            ["as it is"],
        ),
        ("Transfer-Encoding: chunked\r\nContent-Encoding: gzip", b"<p>as it is</p>", ["as it is"]),
        ("Content-Encoding: gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + b"\xff" * 90, []),
        ("Content-Encoding: x-gzip", gzip.compress(b"<p>packed</p>", mtime=0), ["packed"]),
        ("Content-Encoding: deflate", zlib.compress(b"<p>packed</p>"), ["packed"]),
        ("Content-Encoding: deflate", zlib.compress(b"<p>packed</p>")[2:-4], ["packed"]),
        ("Content-Encoding: deflate", b"<p>as it is</p>", ["as it is"]),
        *(
            ("Transfer-Encoding: chunked", body, ["in chunk"])
            for body in (
                b"f;name=x\r\n<p>in chunk</p>\r\n0\r\nTrailer: x\r\n\r\n",
                b"3\r\n<p>\r\nC\r\nin chunk</p>\r\n0\r\n\r\n",
                b"3\r\n<p>\r\nFF\r\nin chunk</p>",  # cut off
                b"3\n<p>\nc\nin chunk</p>\n0\n\n",
            )
        ),
        ("Transfer-Encoding: chunked", b"3\r\n<p>\r\nwithout size</p>", ["without size"]),
        (
            "Transfer-Encoding: gzip, chunked",
            b"%x\r\n%b" % (len(packed := gzip.compress(b"<p>packed</p>", mtime=0)), packed),
            ["packed"],
        ),
    ],
)
def test_a_header_that_lies_costs_its_own_page_at_most(
    tmp_path: Path, headers: str, body: bytes, expected: list[str]
) -> None:
    good = answer(b"<p>good</p>", HTML)
    found = read(tmp_path / "a.warc", good + answer(body, f"{HTML}\r\n{headers}") + good)
    assert found == ["good", *expected, "good"]


def test_an_answer_may_end_its_lines_as_it_likes_but_must_be_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def stored(content: bytes) -> bytes:
        return record("response", content, "application/http; msgtype=response")

    unix = stored(b"HTTP/1.0 200 OK\nContent-Type: text/html\n\n<p>first</p>\r\n\r\n<p>second</p>")
    none = [stored(b"<p>a page without headers</p>"), stored(b"\x16\x03\x01\0"), stored(b"")]
    with caplog.at_level(logging.WARNING):
        (found,) = read(tmp_path / "a.warc", unix + b"".join(none))
    assert found.split() == ["first", "second"]
    assert "passed over 3 record(s) that cannot be read (no HTTP answer: 3)" in caplog.messages[0]
    # The standard's characters of private use say nothing.
    mine = answer("<p>zwölf Größen</p>".encode(), f"{HTML}; charset=x-user-defined")
    assert read(tmp_path / "a.warc", mine) == ["zwölf Größen"]


def test_bad_pages_are_counted_and_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.warc"
    bad = answer(b"\x1f\x8b\x08" + b"\xff" * 90, f"{HTML}\r\nContent-Encoding: gzip")
    path.write_bytes(bad + answer(b"<p>good</p>", HTML) + bad)
    report = StageReport(stage="read")
    with caplog.at_level(logging.WARNING):
        assert len(list(read_documents([path], report=report))) == 1
    assert report.dropped == {"body cannot be decoded": 2}
    assert {s.id for s in report.samples["body cannot be decoded"]} == {f"{path}#1", f"{path}#3"}
    assert "passed over 2 record(s) that cannot be read" in caplog.messages[0]
    assert f"{path}, record " in caplog.messages[1]
    with pytest.raises(UserError, match=r"record 1: its body .*--on-bad-record skip"):
        list(read_documents([path], ReaderOptions(on_bad_record="stop")))


def bad_parquet(path: Path) -> Path:
    values = pa.array([b"caf\xe9", b"good", "gr\xfc\xdf".encode()], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 3, values.buffers())
    pq.write_table(pa.table({"text": text, "n": [1, 2, 3]}), path)
    return path


def test_bytes_that_are_no_text_in_parquet(tmp_path: Path) -> None:
    path = bad_parquet(tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet, row 1: byte 0xe9 at 3 is not UTF-8"):
        list(read_documents([path]))
    assert next(iter_documents([path], ReaderOptions(invalid="replace"))) == "caf\ufffd"
    skip = ReaderOptions(on_bad_record="skip", meta_fields=("n",))
    assert [d.meta["n"] for d in read_documents([path], skip)] == [2, 3]
    pq.write_table(pa.table({"text": pa.array(["déjà".encode()], pa.binary())}), path)
    assert list(iter_documents([path])) == ["déjà"]


def test_a_number_of_many_digits_harms_nothing(tmp_path: Path) -> None:
    digits = "1" * 5000
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "good", "n": {digits}, "m": 7}}\n')
    (found,) = read_documents([path], ReaderOptions(id_field="n", meta_fields=("m",)))
    assert (found.id, found.text) == (digits, "good")


def test_every_string_of_a_document_can_be_encoded(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jsonl")
    Path(path).write_text(r'{"text": "a \ud83d b", "id": "\ud800", "m": {"\udc00": ["\ud83d"]}}')
    options = ReaderOptions(id_field="id", meta_fields=("m",))
    (found,) = read_documents([path], options)
    assert found.text == "a \ufffd b"
    assert found.id == "\ufffd"
    assert found.meta == {"m": {"\ufffd": ["\ufffd"]}}
    assert found.source == f"{tmp_path}/caf\\xe9.jsonl"
    json.dumps([found.text, found.id, found.source], ensure_ascii=False).encode()
    with pytest.raises(UserError) as caught:
        list(read_documents([path], ReaderOptions(field="no")))
    str(caught.value).encode()
    for text in ("&#xD83D;", "&#55357;"):
        dumped = dump(page(3, f"Before {text} after."))
        assert read(tmp_path / "w.xml", dumped) == ["Before \ufffd after."]


def test_what_can_be_encoded_is_not_copied() -> None:
    for text in ("ascii", "naïve \U0001f600"):
        document = Document("a#1", text, "a", {"n": [1, "é"]})
        assert encodable(document) is document


def test_pages_of_a_dump_stand_alone(tmp_path: Path) -> None:
    bad = page(4, "Second.").replace("Second.", "Sec\x01ond & </wrong>")
    no_end = page(5, "Third.").replace("</page>", "</pagX>")
    endless = page(7, "x" * (1 << 20))
    path = tmp_path / "w.xml"
    path.write_bytes(
        dump(page(3, "First."), bad, no_end, page(6, "Fourth."), endless, page(8, "z"))
    )
    report = StageReport(stage="read")
    options = ReaderOptions(max_megabytes=1)
    found = [d.id.split("#")[1] for d in read_documents([path], options, report)]
    assert found == ["3", "6", "8"]
    assert report.dropped == {"damaged XML": 2, "longer than max_megabytes": 1}
    stop = ReaderOptions(on_bad_record="stop")
    with pytest.raises(
        UserError, match=r"w\.xml, page 4: damaged XML \(.*; fetch the dump again, or"
    ):
        list(read_documents([path], stop))


def test_an_unpacked_page_is_bounded_too(tmp_path: Path) -> None:
    bomb = answer(gzip.compress(b"<p>" + b"x" * (2 << 20)), f"{HTML}\r\nContent-Encoding: gzip")
    assert read(tmp_path / "a.warc", bomb + answer(b"<p>ok</p>", HTML), max_megabytes=1) == ["ok"]


BAD: dict[str, tuple[bytes, int]] = {
    "a.jsonl": (
        b'{"text":"a"}\n{"text":null}\n{"text":\n[]\n{"b":1}\n"caf\xe9"\n{"text":"z"}\n',
        5,
    ),
    "a.csv": (b'text,n\na,1\n"b"x,2\n\xe9,3\nc,d,4\nz,5\n', 3),
    "a.tsv": (b"text\tn\na\t1\n\xe9\t2\nz\t3\n", 1),
    "a.txt": (b"a\ncaf\xe9\n" + b"x" * (2 << 20) + b"\nz\n", 2),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_records_are_passed_over_on_request_in_every_format(tmp_path: Path, name: str) -> None:
    content, bad = BAD[name]
    path = tmp_path / name
    path.write_bytes(content)
    report = StageReport(stage="read")
    options = ReaderOptions(on_bad_record="skip", unit="line", max_megabytes=1)
    assert list(iter_documents([path], options, report)) == ["a", "z"]
    assert sum(report.dropped.values()) == report.documents_in == bad
    assert sum(map(len, report.samples.values())) == bad
    assert all(f"{path}, line " in s.detail for held in report.samples.values() for s in held)
    with pytest.raises(UserError, match=r", or set --on-bad-record skip \(on_bad_record: skip"):
        list(iter_documents([path], ReaderOptions(unit="line", max_megabytes=1)))


def test_the_rest_of_a_damaged_file_is_passed_over_on_request_only(tmp_path: Path) -> None:
    whole = record("conversion", b"some text", "text/plain")
    (tmp_path / "a.wet").write_bytes(whole * 2 + whole[:-20])
    (tmp_path / "b.wet").write_bytes(whole)
    lines = "".join(json.dumps({"text": os.urandom(60).hex()}) + "\n" for _ in range(9999)).encode()
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(lines)[:-4000])
    report = StageReport(stage="read")
    found = list(iter_documents([tmp_path], ReaderOptions(on_bad_record="skip"), report))
    assert found[:3] == ["some text"] * 3
    assert len(found) > 3000
    assert report.dropped["rest of a damaged file"] == 2
    with pytest.raises(UserError, match=r"a\.wet: is cut off at record 3"):
        list(iter_documents([tmp_path]))


def test_the_error_of_a_bad_record_reaches_other_processes_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("[]\n")
    with pytest.raises(BadRecordError) as caught:
        list(iter_documents([path]))
    assert caught.value.__cause__ is not caught.value  # Dask's pickling would never end
    error = pickle.loads(pickle.dumps(caught.value))
    assert type(error) is BadRecordError
    assert str(error) == str(caught.value)
    assert str(error).startswith(f"{path}, line 1: is a list, not an object with 'text'; mend or")
    assert error.reason == "no object"


def test_a_column_that_no_row_has_is_a_setting_and_always_stops(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("body\nx\n")
    (tmp_path / "b.jsonl").write_text('{"body": "x"}\n')
    skip = ReaderOptions(on_bad_record="skip")
    with pytest.raises(
        UserError, match=r"a\.csv, line 1: has no 'text' \(found: body\); set --fie"
    ):
        list(iter_documents([tmp_path / "a.csv"], skip))
    with pytest.raises(UserError, match=r"b\.jsonl: no text in 1 .*passed over 1 .*has no 'text'"):
        list(iter_documents([tmp_path / "b.jsonl"], skip))


def test_columns_are_named_once_and_behind_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('\n\r\ntext,n\n"good",1\n')
    assert [(d.id, d.text) for d in read_documents([path])] == [(f"{path}#4", "good")]
    for content in ("\n\n", ""):
        path.write_text(content)
        with pytest.raises(UserError, match="no text in 1 file"):
            list(read_documents([path]))
    path.write_text("text,n,text\na,1,b\n")
    with pytest.raises(UserError, match=r"a\.csv, line 1: has 2 columns 'text'; rename all but"):
        list(read_documents([path], ReaderOptions(on_bad_record="skip")))
    columns = pa.Table.from_arrays([pa.array(["a"])] * 3, names=["id", "text", "id"])
    pq.write_table(columns, path := tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet: has 2 columns 'id'; rename all but one"):
        list(read_documents([path], ReaderOptions(id_field="id")))


def test_values_that_are_no_text_are_shown(tmp_path: Path) -> None:
    for values in ([1, None], [["a"], None], [{"x": 1}, None]):
        pq.write_table(pa.table({"text": values}), path := tmp_path / "a.parquet")
        report = StageReport(stage="read")
        with pytest.raises(UserError, match="no text in 1 file"):
            list(read_documents([path], ReaderOptions(on_bad_record="skip"), report))
        assert report.dropped == {"'text' is no text": 2}
        samples = {s.id: s.excerpt for s in report.samples["'text' is no text"]}
        assert samples == {f"{path}#1": str(values[0]), f"{path}#2": "None"}


@pytest.mark.parametrize(
    ("name", "content", "remedy"),
    [
        ("a.txt", "text".encode("utf-16"), "is UTF-16, not UTF-8; .*iconv -f utf-16 -t utf-8"),
        ("a.csv", "text\na\n".encode("utf-16"), "line 1: is UTF-16, not UTF-8; .*iconv -f utf-16"),
        ("a.json", b'[\n{"text": "a"},\n{"text": "b"}\n]\n', r"line 1: not JSON .*jq -c '\.\[\]'"),
        ("a.json", b'{\n"text": "a"\n}', r"line 1: not JSON .*jq -c '\.\[\]'"),
        ("a.json", b'[{"text": "a"}, {"text": "b"}]', r"line 1: is a list, .*jq -c '\.\[\]'"),
    ],
)
def test_files_of_another_form_are_named_with_what_makes_them_readable(
    tmp_path: Path, name: str, content: bytes, remedy: str
) -> None:
    with pytest.raises(UserError, match=remedy):
        read(tmp_path / name, content)
