import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from convbert.data_pipeline.packing.tokenizer_report import report_tokenizer
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import UserError
from convbert.pretrain.cli import app


def test_the_figures_are_those_of_the_sample(tokenizer_dir: Path, documents: list[str]) -> None:
    tokenizer = Tokenizer.load(tokenizer_dir)
    report = report_tokenizer(tokenizer, documents)
    ids = [tokenizer.encode_batch([text.replace("\n", " ")])[0] for text in documents]
    words = sum(len(text.split()) for text in documents)
    tokens = sum(map(len, ids))
    assert (report.documents, report.words) == (len(documents), words)
    assert report.tokens == pytest.approx(tokens, rel=1e-3)  # segments may end inside a piece
    assert report.fertility == report.tokens / words
    assert report.length["most"] == pytest.approx(max(map(len, ids)), rel=1e-2)
    assert report.fitting[128] == sum(len(i) <= 126 for i in ids) / len(ids)
    assert len(report.longest_pieces[0]) >= len(report.longest_pieces[-1]) > 5
    assert all(word == "".join(p).replace("▁", "") for word, p in report.most_split)
    assert "".join(report.examples[0]).replace("▁", " ").split()[:5] in [
        text.split()[:5] for text in documents
    ]
    assert report_tokenizer(tokenizer, documents[::-1]) == report


def test_what_the_vocabulary_lacks_is_named(tokenizer_dir: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(tokenizer_dir)
    report = report_tokenizer(tokenizer, ["a snowman ☃ and a ☃", "plain"])
    assert report.not_covered == [("☃", 2)]
    assert report.byte_rate == 6 / report.tokens
    assert report.unknown_rate == 0
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (tmp_path / "vocab.txt").write_text("\n".join([*special, "a", "##b"]) + "\n")
    report = report_tokenizer(Tokenizer.load(tmp_path), ["ab a c ☃"])
    assert (report.tokens, report.unknown_rate, report.whole_words) == (5, 2 / 5, 3 / 4)
    assert report.not_covered == [("c", 1), ("☃", 1)]
    with pytest.raises(UserError, match="holds no words"):
        report_tokenizer(tokenizer, ["  "])


def test_the_command_prints_a_table_or_json(tokenizer_dir: Path, corpus: Path) -> None:
    command = ["tokenizer", "report", str(tokenizer_dir), str(corpus), "--documents", "5"]
    table = CliRunner().invoke(app, command)
    assert table.exit_code == 0, table.output
    assert "tokens per word" in table.output
    assert "5 documents" in table.output
    content = json.loads(CliRunner().invoke(app, [*command, "--json"]).output)
    assert content["documents"] == 5
