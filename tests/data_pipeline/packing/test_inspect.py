from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer

from convbert.data_pipeline.filters.corpus_settings import CorpusConfig
from convbert.data_pipeline.packing.inspect import head, info
from convbert.data_pipeline.shards.manifest import Manifest
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import UserError
from convbert.pretrain.cli.shards import shards_head, shards_info, shards_verify

MakeShards = Callable[..., Manifest]


@pytest.fixture
def tokenizer(tokenizer_dir: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_dir)


def make(
    folder: Path, make_shards: MakeShards, tokenizer: Tokenizer, packing: str, *parts: str
) -> Path:
    """Write one row in which every part is framed as the packing does."""
    ids = tokenizer.encode_batch(parts)
    row: list[int] = []
    for number, tokens in enumerate(ids):
        row += [tokenizer.cls_id] if number == 0 or packing == "full" else []
        row += [*tokens, tokenizer.sep_id]
    rows = np.zeros((1, 64), dtype=np.uint16)
    rows[0, : len(row)] = row
    manifest = make_shards(folder, rows, packing)
    stated = {"tokenizer_digest": tokenizer.digest, "vocab_size": tokenizer.vocab_size}
    manifest.model_copy(update=stated).save(folder / "manifest.json")
    return folder


def test_head_shows_segments(tmp_path: Path, make_shards: MakeShards, tokenizer: Tokenizer) -> None:
    first, second = "The first segment.", "And the second one."
    lengths = [len(ids) for ids in tokenizer.encode_batch([first, second])]
    folder = make(tmp_path / "s", make_shards, tokenizer, "electra", first, second)
    tokens = sum(lengths) + 3
    assert list(head(folder, tokenizer, 5)) == [
        f"sequence 0: {tokens} tokens, {64 - tokens} padding",
        f"  A ({lengths[0]}) {first}",
        f"  B ({lengths[1]}) {second}",
    ]


def test_head_shows_documents_and_ids(
    tmp_path: Path, make_shards: MakeShards, tokenizer: Tokenizer
) -> None:
    texts = ["One.", "Two.", "Three."]
    folder = make(tmp_path / "s", make_shards, tokenizer, "full", *texts)
    lines = list(head(folder, tokenizer, 1, ids=True))
    assert [line.split()[0] for line in lines[1::2]] == ["1", "2", "3"]
    ids = [[int(i) for i in line.split()] for line in lines[2::2]]
    assert ids == tokenizer.encode_batch(texts)


def test_head_refuses_another_tokenizer_and_a_number_beyond_the_end(
    electra: tuple[Path, np.ndarray], shards_dir: Path, tokenizer: Tokenizer
) -> None:
    with pytest.raises(UserError, match=r"is not the tokenizer of .*; give that one"):
        list(head(electra[0], tokenizer, 1))
    with pytest.raises(UserError, match=r"first=1000000: .* sequences; give a smaller"):
        list(head(shards_dir, tokenizer, 1, first=10**6))


def test_head_of_a_built_corpus_reads_as_its_text(
    shards_dir: Path, tokenizer: Tokenizer, documents: list[str]
) -> None:
    lines = list(head(shards_dir, tokenizer, 20))
    shown = "".join(line.split(") ", 1)[1] for line in lines if line.startswith("  "))
    letters = "".join("".join(documents).split())
    assert letters.startswith("".join(shown.split())[:500])


def test_info_lists_the_figures(shards_dir: Path) -> None:
    figures = dict(info(shards_dir))
    manifest = Manifest.load(shards_dir)
    assert figures["digest"] == manifest.digest
    assert figures["sequences"] == f"{manifest.num_sequences:,}"
    assert figures["packing"] == "electra, 64 tokens a sequence"
    assert figures["build: unit"] == "file"


def test_commands_print_faults_figures_and_rows(
    spoilable: Path, shards_dir: Path, tokenizer_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for status in (0, 1):  # no fault, one fault
        with pytest.raises(typer.Exit) as ended:
            shards_verify(str(spoilable))
        assert ended.value.exit_code == status
        shown = capsys.readouterr().out
        assert f": {status} fault(s) in " in shown
        (spoilable / "shard-000000.tar").unlink(missing_ok=True)
    assert "shard-000000.tar: is missing; copy the shard again" in shown
    shards_info(str(shards_dir))
    shards_head(str(shards_dir), tokenizer_dir, 1, first=2, ids=True)
    shown = capsys.readouterr().out
    assert "packing" in shown
    assert "sequence 2: " in shown


def test_info_shows_what_is_not_the_default_of_each_source(
    tmp_path: Path, make_shards: MakeShards, tokenizer: Tokenizer
) -> None:
    folder = make(tmp_path / "s", make_shards, tokenizer, "full", "Some words.")
    plain, special = (
        CorpusConfig.model_validate({"inputs": ["a"], "filters": filters}).model_dump(
            mode="json", exclude={"inputs", "samples"}
        )
        for filters in ({}, {"gopher": {"min_words": 7}})
    )
    build = {"sources": [plain, special, {"of": "another version"}], "seed": 3}
    manifest = Manifest.load(folder).model_copy(update={"build": build})
    manifest.save(folder / "manifest.json")
    figures = dict(info(folder))
    assert figures["build: source 1"] == "default reader, cleaning and filters"
    assert figures["build: source 2"] == '{"filters": {"gopher": {"min_words": 7}}}'
    assert figures["build: source 3"] == '{"of": "another version"}'
    assert figures["build: seed"] == "3"
