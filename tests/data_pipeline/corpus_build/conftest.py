"""A corpus with copies, and its undisturbed build."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from convbert.data_pipeline.corpus_build.build import build_corpus
from convbert.data_pipeline.corpus_build.build_settings import BuildConfig
from convbert.data_pipeline.corpus_build.progress import BuildProgress

QUESTION = "which of the many rivers that cross the old town carried most of its trade then"

UNFILTERED = {"language": None, "gopher": None, "repetition": None}


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory, documents: list[str]) -> Path:
    """A directory of files with unlike, equal, similar and contaminated documents."""
    folder = tmp_path_factory.mktemp("sources")
    choice = random.Random(0)
    for number in range(6):
        texts = [f"{text} {number}{i}" for i, text in enumerate(documents) if i % 6 == number]
        texts += [documents[0].upper(), f"{documents[40]} Word {number}."]
        choice.shuffle(texts)
        texts.append(f"Once asked {number}: {QUESTION}?")
        lines = (json.dumps({"text": text}) + "\n" for text in texts)
        (folder / f"part-{number}.jsonl").write_text("".join(lines))
    return folder


@pytest.fixture(scope="session")
def settings(
    tmp_path_factory: pytest.TempPathFactory, sources: Path, tokenizer_dir: Path
) -> dict[str, object]:
    """Settings of a build of several parts of files, pieces and shards."""
    evaluation = tmp_path_factory.mktemp("evaluation") / "questions.txt"
    evaluation.write_text(QUESTION)
    return {
        "sources": [
            {"inputs": [str(path)], "filters": UNFILTERED} for path in sorted(sources.iterdir())
        ],
        "decontamination": {"files": [str(evaluation)]},
        "tokenizer": {"path": str(tokenizer_dir)},
        "shards": {"seq_len": [32, 64], "megabytes": 1, "packing": "electra"},
        "split_megabytes": 0.04,
    }


@pytest.fixture(scope="session")
def config(settings: dict[str, object]) -> BuildConfig:
    return BuildConfig.model_validate(settings)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, config: BuildConfig) -> Path:
    """The undisturbed build, by one process, with its intermediate results."""
    out = tmp_path_factory.mktemp("built") / "corpus"
    with BuildProgress() as progress:
        build_corpus(config, out, progress, workers=1, keep_work=True)
    return out


@pytest.fixture(scope="session")
def shard_bytes() -> Callable[[Path], dict[str, bytes]]:
    """Return the function that reads all that must be equal between two builds."""
    return lambda out: {
        str(path.relative_to(out)): path.read_bytes()
        for folder in sorted(out.glob("shards-*"))
        for path in sorted(folder.iterdir())
    }
