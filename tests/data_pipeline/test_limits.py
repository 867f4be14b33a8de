"""Bounds hold: on documents, pages, rows and windows, and impossible numbers are refused first."""

import json
import time
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backports import zstd
from pydantic import ValidationError
from text_formats import answer
from typer.testing import CliRunner

from convbert.data_pipeline.corpus_build.build_settings import BuildConfig
from convbert.data_pipeline.dedup import words
from convbert.data_pipeline.documents import StageReport
from convbert.data_pipeline.packing.build import RowSettings, build_shards
from convbert.data_pipeline.readers import ReaderOptions, iter_documents
from convbert.data_pipeline.shards.combine import split_shards
from convbert.models.errors import UserError
from convbert.pretrain.cli import app

ONE = ReaderOptions(max_megabytes=1, on_bad_record="skip", unit="line")


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv", "txt"])
def test_a_document_beyond_the_bound_is_no_document_of_any_format(
    tmp_path: Path, kind: str
) -> None:
    just, more = "é" * (1 << 19), "é" * (1 << 19) + "x"
    bound = just[: -30 if kind != "parquet" else None]  # of the whole line
    values = ["a", bound, more, "z"]
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"text": values}), path)
    elif kind == "jsonl":
        lines = (json.dumps({"text": value}, ensure_ascii=False) for value in values)
        path.write_text("\n".join(lines), encoding="utf-8")
    else:
        path.write_text("\n".join(["text", *values][kind == "txt" :]), encoding="utf-8")
    report = StageReport(stage="read")
    found = list(iter_documents([path], ONE, report))
    assert [len(text) for text in found] == [1, len(bound), 1]
    assert sum(report.dropped.values()) == 1


def test_rows_of_large_texts_are_read_a_few_at_a_time(tmp_path: Path) -> None:
    table = pa.table({"text": ["x" * (1 << 20)] * 64})
    pq.write_table(table, tmp_path / "a.parquet", use_dictionary=False, write_batch_size=1)
    del table
    before = pa.total_allocated_bytes()
    most = 0
    for _ in iter_documents([tmp_path / "a.parquet"]):
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 40 << 20


def test_the_time_for_a_page_does_not_grow_with_the_square_of_its_depth(tmp_path: Path) -> None:
    path = tmp_path / "a.warc"
    blocks = "<div>" * 40_000 + "deep" + "</div>" * 40_000
    attributes = f"<p {' '.join(f'a{n}=b' for n in range(60_000))}>wide"
    header = "Content-Type: text/html; charset=utf-8"
    path.write_bytes(answer(blocks.encode(), header) + answer(attributes.encode(), header))
    start = time.process_time()
    assert [text.strip() for text in iter_documents([path])] == ["deep", "wide"]
    assert time.process_time() - start < 20  # some 40 and 8 seconds before


@pytest.mark.parametrize("window", [27, 28, 31])
def test_zstandard_with_long_windows_is_no_damage(tmp_path: Path, window: int) -> None:
    options = {zstd.CompressionParameter.window_log: window}
    with zstd.open(tmp_path / "a.txt.zst", "wb", options=options) as file:
        file.write(b"some text")
    assert list(iter_documents([tmp_path])) == ["some text"]


def test_long_texts_are_hashed_in_pieces_to_the_same_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = [*topics.values(), "", "naïve 你好 " * 50, "x" * 9000, "  "]
    whole = words.hash_words(texts)
    for size in (1000, 4096):
        monkeypatch.setattr(words, "_HASHED_AT_ONCE", size)
        pieces = words.hash_words(texts)
        assert np.array_equal(pieces.hashes, whole.hashes)
        assert np.array_equal(pieces.offsets, whole.offsets)


@pytest.mark.parametrize("lengths", [[2], [4], [128, 7], [0], [-1], [64, 64], [65537], [10**11]])
def test_impossible_lengths_of_rows_are_refused(tmp_path: Path, lengths: list[int]) -> None:
    with pytest.raises(ValidationError, match="seq_len"):
        BuildConfig.model_validate({"inputs": ["x"], "shards": {"seq_len": lengths}})


@pytest.mark.parametrize(
    "settings",
    [
        {"split_megabytes": 1e-9},
        {"split_megabytes": float("inf")},
        {"samples": 10**12},
        {"reader": {"max_megabytes": 10**16}},
        {"dedup": {"bands": 10**9}},
        {"dedup": {"rows": 10**9}},
        {"dedup": {"ngram": 10**9}},
        {"dedup": {"seed": 1 << 64}},
        {"decontamination": {"ngram": 10**9}},
        {"tokenizer": {"vocab_size": 10**11}},
        {"tokenizer": {"threads": 10**9}},
    ],
    ids=str,
)
def test_numbers_that_no_machine_can_bear_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"less than|greater than"):
        BuildConfig.model_validate({"inputs": ["x"], **settings})


@pytest.mark.parametrize("packing", ["electra", "full"])
def test_short_rows_are_refused_by_both_packings(
    tmp_path: Path, corpus: Path, tokenizer_dir: Path, packing: str
) -> None:
    for length in (2, 4, 7, 65537):
        rows = RowSettings(length, packing)  # type: ignore[arg-type]
        with pytest.raises(UserError, match=f"seq_len={length}: .* use 8 to 65536"):
            build_shards([corpus], tokenizer_dir, tmp_path / "out", rows=rows)
    rows = RowSettings(8, packing)  # type: ignore[arg-type]
    assert build_shards([corpus], tokenizer_dir, tmp_path / "out", rows=rows).num_sequences > 1000


@pytest.mark.parametrize("shares", [[1, -1], [0, 1], [0], [float("nan")], [float("inf"), 1]])
def test_impossible_shares_are_refused(
    tmp_path: Path, shards_dir: Path, shares: list[float]
) -> None:
    with pytest.raises(UserError, match="not all are positive"):
        split_shards(shards_dir, tmp_path / "out", shares)


@pytest.mark.parametrize(
    "arguments",
    [
        "shards build x -o o -t t --workers -1",
        "shards build x -o o -t t --workers 0",
        "shards build x -o o -t t --seq-len 4",
        "shards build x -o o -t t --seq-len 65537",
        "shards build x -o o -t t --max-megabytes 9999999",
        "shards build x -o o -t t --workers 100000000",
        "tokenizer train x -o o --vocab-size 99999999999",
        "shards tokenize x -o o -t t --workers -1",
        "shards pack x -o o --workers -1",
        "shards verify x --workers -1",
        "corpus build x -o o --workers -1",
        "tokenizer train x -o o --threads 0",
        "tokenizer train x -o o --max-sentences 0",
    ],
)
def test_impossible_numbers_of_a_command_are_refused(arguments: str) -> None:
    result = CliRunner().invoke(app, arguments.split())
    assert result.exit_code == 2
    assert "Invalid value" in result.output
