"""Parquet, WARC and MediaWiki: what is written comes back, and damage is named with its place."""

import gzip
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from text_formats import WRITERS, answer, dump, page, parquet, record

from convbert.data_pipeline import extras
from convbert.data_pipeline.readers import ReaderOptions, iter_documents, read_documents
from convbert.data_pipeline.readers.wikitext import prose
from convbert.models.errors import DamagedError, UserError

# Characters that XML and text files can hold, with some that formats treat in a special way.
letters = st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\ufeff\ufffe\uffff")
texts = st.lists(
    st.text(letters | st.sampled_from("\",\t<&'{\\"), min_size=1).filter(str.strip), min_size=1
)


@pytest.mark.parametrize("kind", WRITERS)
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(values=texts)
def test_what_is_written_comes_back(tmp_path: Path, kind: str, values: list[str]) -> None:
    content = WRITERS[kind](values)
    for suffix, compress in {"": bytes, ".gz": gzip.compress, ".zst": zstd.compress}.items():
        path = tmp_path / f"a.{kind}{suffix}"
        path.write_bytes(compress(content))
        assert list(iter_documents([path], ReaderOptions(unit="line"))) == values


@pytest.mark.parametrize("kind", WRITERS)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_damage_is_one_line_that_names_the_file(
    tmp_path: Path, kind: str, data: st.DataObject
) -> None:
    content = bytearray(WRITERS[kind](["first text", "naïve second", "third " * 20]))
    cut = data.draw(st.integers(1, len(content)))
    for place in data.draw(st.lists(st.integers(0, cut - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path / f"a.{kind}"
    path.write_bytes(content[:cut])
    errors = []
    try:
        list(read_documents([path]))
    except UserError as error:
        errors.append(str(error))
    assert all(e.startswith(str(path)) and "\n" not in e for e in errors)


def test_a_full_disk_of_temporary_files_is_not_the_input_that_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet.gz"
    path.write_bytes(gzip.compress(parquet(["x" * 1000, *map(str, range(50_000))])))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(UserError, match=r"parquet\.gz: cannot be unpacked in .*; set TMPDIR"):
            list(iter_documents([path]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_only_the_named_columns_of_parquet_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet(["x", "y"]))
    (_, second) = read_documents([path], ReaderOptions(id_field="id", meta_fields=("id",)))
    assert (second.id, second.text, second.meta) == ("1", "y", {"id": 1})
    with pytest.raises(UserError, match=r"has no 'body' \(found: id, text\); set --field"):
        list(read_documents([path], ReaderOptions(field="body")))


def test_web_pages_lose_markup_and_what_is_no_page(tmp_path: Path) -> None:
    html = "<html><head><title>T</title><script>x()</script></head><body><nav>Menu</nav><article>"
    html += "<p>Un café &amp; du thé.</p><p>Second paragraph.</p></article></body></html>"
    typed = "Content-Type: text/html; charset="
    records = [
        record("warcinfo", b"software: x", "application/warc-fields"),
        answer(html.encode("latin-1"), typed + "iso-8859-1"),
        answer(gzip.compress(html.encode()), typed + "utf-8\r\nContent-Encoding: gzip"),
        answer(html.encode(), "Content-Type: text/html"),
        answer(html.encode(), typed + "utf-8", "404 Not Found"),
        answer(b"\x89PNG", "Content-Type: image/png"),
        record("response", b"plain", "text/dns"),
        answer("déjà".encode(), "Content-Type: text/plain; charset=utf-8"),
        record("resource", b"<p>of its own</p>", "text/html"),
    ]
    path = tmp_path / "a.warc.gz"
    path.write_bytes(b"".join(map(gzip.compress, records)))  # as crawls do: a member per record
    found = list(read_documents([path]))
    assert [d.text for d in found[:3]] == ["Un café & du thé.\n\nSecond paragraph."] * 3
    assert [d.text.strip() for d in found[3:]] == ["déjà", "of its own"]
    assert [d.id.split("#")[1] for d in found] == ["2", "3", "4", "8", "9"]
    assert found[0].meta == {"url": "http://example.org/", "date": "2026-01-02T03:04:05Z"}
    assert "Menu" in next(iter_documents([path], ReaderOptions(html="all")))


def test_a_cut_crawl_names_the_record(tmp_path: Path) -> None:
    whole = record("conversion", b"some text", "text/plain")
    for cut, message in [
        (len(whole) + len(whole) - 6, r"record 2: has 7 of 9 bytes"),
        (len(whole) + 20, r"a\.wet: is cut off at record 2"),
        (len(whole) + len(whole) - 13, r"a\.wet, record 2: has 0 of 9 bytes"),
    ]:
        path = tmp_path / "a.wet"
        path.write_bytes((whole * 3)[:cut])
        with pytest.raises(DamagedError, match=message):
            list(read_documents([path]))


def test_dumps_hold_articles_among_other_pages(tmp_path: Path) -> None:
    content = dump(
        page(3, "First ''article''.", "A & B"),
        page(4, "#REDIRECT [[A]]"),
        page(5, "Moved.", extra='<redirect title="A" />'),
        page(6, "A talk.", space=1),
        page(7, "Second."),
    )
    path = tmp_path / "enwiki-pages-articles1.xml-p1p9.zst"
    path.write_bytes(zstd.compress(content))
    found = list(read_documents([tmp_path]))
    assert [(d.id.split("#")[1], d.text) for d in found] == [
        ("3", "First article."),
        ("7", "Second."),
    ]
    assert found[0].meta == {"title": "A & B", "revision": "93", "date": ""}
    talk = list(iter_documents([path], ReaderOptions(namespaces=(1,))))
    assert talk == ["A talk."]


def test_a_damaged_dump_names_the_page(tmp_path: Path) -> None:
    content = dump(page(3, "Fine."), page(4, "Cut."))
    path = tmp_path / "w.xml"
    path.write_bytes(content[:-40])
    with pytest.raises(DamagedError, match=r"w\.xml: is cut off behind page 3; fetch it again"):
        list(read_documents([path]))
    path.write_bytes(b"<rss><page/></rss>")
    with pytest.raises(UserError, match="its root is <rss>, not <mediawiki>"):
        list(read_documents([path]))


MARKUP = """{{Infobox|name=[[x]]}}
'''Anarchism''' is a [[political philosophy|philosophy]]<ref name="a">{{cite|b}}</ref> of
[[Self-governance]].<!-- hidden -->
[[File:A.jpg|thumb|A [[caption]]]]
== Views ==
* First&nbsp;item<br />broken
{| class="wikitable"
|-
| cell
|}
See [http://example.org the site] and [http://example.org].
<math>x^2</math><blockquote>Quoted.</blockquote> [[:Category:Shown]]
[[Category:Ideas]]
[[de:Anarchie]]"""


def test_markup_becomes_prose() -> None:
    assert prose(MARKUP).split("\n") == [
        "Anarchism is a philosophy of",
        "Self-governance.",
        "",
        "Views",
        "",
        "First\xa0item",
        "broken",
        "",
        "See the site and .",
        "",
        "Quoted. :Category:Shown",
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["{{", "}}", "[[", "]]", "|", "<ref>", "</ref>", "''", "\n", "x"])))
def test_broken_markup_is_no_error(parts: list[str]) -> None:
    prose("".join(parts))


@pytest.fixture
def without_packages(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def missing(module: str) -> object:
        raise ImportError(name=module)

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    return


@pytest.mark.parametrize(
    ("kind", "package"),
    [
        ("parquet", "pyarrow"),
        ("warc", "fastwarc.warc"),
        ("xml", "mwparserfromhell"),
        ("zst", "zstd"),
    ],
)
@pytest.mark.usefixtures("without_packages")
def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, kind: str, package: str) -> None:
    content = {"xml": dump(page(1, "x")), "zst": zstd.compress(b"x")}
    path = tmp_path / f"a.{kind}"
    path.write_bytes(content.get(kind) or WRITERS[kind](["x"]))
    with pytest.raises(UserError, match=rf"{package}'; .*pip install '\.\[corpus\]'"):
        list(read_documents([path]))
