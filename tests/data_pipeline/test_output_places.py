"""Every command that makes a directory takes a link to an empty one, and refuses early."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from convbert.data_pipeline.corpus_build.build import build_corpus
from convbert.data_pipeline.corpus_build.build_settings import BuildConfig
from convbert.data_pipeline.corpus_build.progress import BuildProgress
from convbert.data_pipeline.packing.build import build_shards, pack_tokens, tokenize_corpus
from convbert.data_pipeline.readers import iter_documents
from convbert.data_pipeline.shards.combine import merge_shards, split_shards
from convbert.data_pipeline.tokenizer.training import train_tokenizer
from convbert.models.errors import UserError

Make = Callable[[Path, Path], object]
"""Called with the output and the input text."""


def build(text: Path, tokenizer: Path, out: Path, shards: str) -> object:
    """Build a corpus whose shards of length 64 are at ``out``."""
    (out.parent / "corpus").mkdir()
    (out.parent / "corpus" / shards).symlink_to(out)
    config = {
        "inputs": [str(text)],
        "filters": {"language": None, "gopher": None, "repetition": None},
        "tokenizer": {"path": str(tokenizer)},
        "shards": {"seq_len": [64]},
    }
    with BuildProgress() as progress:
        return build_corpus(
            BuildConfig.model_validate(config), out.parent / "corpus", progress, workers=1
        )


@pytest.fixture(params=["build", "tokenize", "pack", "merge", "split", "train", "corpus"])
def make(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    tokenizer_dir: Path,
    shards_dir: Path,
    corpus: Path,
) -> Make:
    """What writes to an output."""
    if request.param == "pack":
        tokens = tmp_path_factory.mktemp("tokens") / "tokens"
        tokenize_corpus([corpus], tokenizer_dir, tokens)
    known: dict[str, Make] = {
        "build": lambda out, text: build_shards([text], tokenizer_dir, out),
        "tokenize": lambda out, text: tokenize_corpus([text], tokenizer_dir, out),
        "pack": lambda out, _: pack_tokens(tokens, out),
        "merge": lambda out, _: merge_shards([shards_dir, shards_dir], out),
        "split": lambda out, _: split_shards(shards_dir, out, [1, 1]),
        "train": lambda out, text: train_tokenizer(iter_documents([text]), out, vocab_size=600),
        "corpus": lambda out, text: build(text, tokenizer_dir, out, "shards-64"),
    }
    return known[request.param]


def test_a_link_to_an_empty_directory_is_filled(make: Make, tmp_path: Path, corpus: Path) -> None:
    target = tmp_path / "disk/target"
    target.mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(target)
    make(link, corpus)
    assert len(os.listdir(target)) >= 2
    assert link.is_symlink()
    assert os.listdir(target.parent) == ["target"]


def test_what_cannot_be_made_is_refused_before_anything_is_read(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="exists already"):
        make(tmp_path / "file", tmp_path / "no-such-input.txt")


def test_a_name_may_be_no_utf8(make: Make, tmp_path: Path, corpus: Path) -> None:
    out = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    make(out, corpus)
    assert len(os.listdir(out)) >= 2


def test_a_corpus_needs_a_name_that_its_workers_can_be_told(tmp_path: Path) -> None:
    out = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    with (
        BuildProgress() as progress,
        pytest.raises(UserError, match=r"/caf\\xe9: is no UTF-8; choose a directory with another"),
    ):
        build_corpus(BuildConfig(inputs=("in",)), out, progress, workers=1)
    assert not os.listdir(tmp_path)


def test_a_place_that_turns_out_to_take_nothing_is_named(corpus: Path) -> None:
    with pytest.raises(UserError, match=r"/proc/x: cannot be written"):
        train_tokenizer(iter_documents([corpus]), Path("/proc/x"), vocab_size=600)
