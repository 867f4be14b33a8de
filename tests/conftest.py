"""Settings and real text that every test shares."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

import pytest
import torch

from convbert.data_pipeline.packing.build import RowSettings, build_shards
from convbert.data_pipeline.readers import iter_documents
from convbert.data_pipeline.tokenizer.training import train_tokenizer

# Without a GPU the Triton kernels are interpreted, which Triton decides when it is imported.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# Tests run side by side, one worker for each core: more threads would slow each other down.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Undo what a test that starts a run or a command in this process configures."""
    yield
    logger = logging.getLogger("convbert")
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


@pytest.fixture(scope="session")
def documents() -> list[str]:
    """Real English prose that every Python carries: the topics of its language reference."""
    return [text for _, text in sorted(topics.items())]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory, documents: list[str]) -> Path:
    """The documents as a JSON-lines file."""
    path = tmp_path_factory.mktemp("corpus") / "topics.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    return path


@pytest.fixture(scope="session")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A unigram tokenizer of 1,000 ids trained on the corpus."""
    folder = tmp_path_factory.mktemp("tokenizer") / "tokenizer"
    train_tokenizer(iter_documents([corpus]), folder, vocab_size=1000)
    return folder


@pytest.fixture(scope="session")
def shards_dir(tmp_path_factory: pytest.TempPathFactory, corpus: Path, tokenizer_dir: Path) -> Path:
    """Shards of the corpus in sequences of 64 tokens."""
    folder = tmp_path_factory.mktemp("shards") / "shards"
    build_shards([corpus], tokenizer_dir, folder, rows=RowSettings(64))
    return folder
