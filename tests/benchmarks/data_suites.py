"""What is compared of the data pipeline: reading batches, and making rows of text.

The loader's contenders deliver one epoch in batches of 256 x 128. The raw reads return bare uint16
rows from one flat file; the loader returns five int64 tensors in its global order, with every
block's CRC checked. Files are in the page cache. The tokenizers run on one core each.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import torch
import webdataset
from numpy.typing import NDArray

from convbert.data_pipeline.loading.loader import ShardLoader
from convbert.data_pipeline.packing.rows import PACKERS, RowFormat, to_array
from convbert.data_pipeline.packing.tokens import TokenChunk
from convbert.data_pipeline.shards.manifest import Manifest, Packing
from convbert.data_pipeline.shards.writer import ShardWriter
from convbert.data_pipeline.tokenizer.hugging_face import fast_tokenizer
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.data_pipeline.tokenizer.training import train_tokenizer
from tests.benchmarks.measuring import Comparison, Contender

SEQUENCES, LENGTH, BATCH = 200_000, 128, 256
PAD, CLS, SEP, VOCABULARY = 0, 2, 3, 30_522
Rows = NDArray[np.uint16]
Run = Callable[[], object]


def loader() -> Comparison:
    """Batches from local shards, beside raw reads of the same tokens."""
    # Kept by the contenders, and removed with them.
    temporary = tempfile.TemporaryDirectory()
    folder = Path(temporary.name)
    rows = _make_rows("electra")
    rows.tofile(folder / "raw.bin")
    electra = _write_set(folder / "electra", rows, "electra")
    full = _write_set(folder / "full", _make_rows("full"), "full")
    runs: dict[str, Run] = {
        "raw memmap, random rows": _raw(folder / "raw.bin", shuffled=True),
        "raw memmap, in order": _raw(folder / "raw.bin", shuffled=False),
        "webdataset, in order": _plain_webdataset(electra),
        "our loader, electra": _loaded(electra, ahead=False),
        "our loader, electra, read ahead": _loaded(electra, ahead=True),
        "our loader, full": _loaded(full, ahead=False),
    }

    def kept(run: Run) -> Run:
        return lambda: (temporary, run())

    contenders = [Contender(name, kept(run)) for name, run in runs.items()]
    tokens = SEQUENCES // BATCH * BATCH * LENGTH
    return Comparison("an epoch in batches of 256 x 128", tokens, contenders, tensors=False)


def tokenizer() -> Comparison:
    """Rows of 128 tokens from English text, beside transformers' fast tokenizer of equal ids."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    texts = list(topics.values())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "tokenizer"
        train_tokenizer(texts, folder, vocab_size=4000)
        ours = Tokenizer.load(folder)
        fast = fast_tokenizer(ours)
    rows = RowFormat(LENGTH, ours.pad_id, ours.cls_id, ours.sep_id)

    def grouped() -> NDArray[np.uint32]:
        """Concatenate all and cut to rows, as transformers' run_mlm example does."""
        encoded = fast.encode_batch(texts, add_special_tokens=True)
        flat = list(chain.from_iterable(e.ids for e in encoded))
        whole = len(flat) // LENGTH * LENGTH
        return np.array([flat[i : i + LENGTH] for i in range(0, whole, LENGTH)], dtype=np.uint32)

    def packed(packing: Packing) -> NDArray[np.uint32]:
        chunk = TokenChunk.encode(0, texts, ours)
        return to_array(PACKERS[packing](chunk.split(), rows, 0), rows)

    contenders = [
        Contender("transformers' fast tokenizer, concatenated and cut", grouped),
        Contender("ours, packing full", lambda: packed("full")),
        Contender("ours, packing electra", lambda: packed("electra")),
    ]
    full = packed("full")
    waste = {p: float((packed(p) == ours.pad_id).mean()) for p in PACKERS}
    size = sum(len(text.encode()) for text in texts) / 1e6
    notes = ["Padding: " + ", ".join(f"{share:.2%} ({p})" for p, share in waste.items()) + "."]
    return Comparison(
        f"tokenize and pack {size:.2f} MB of English (unigram, 4,000 pieces)",
        int((full != ours.pad_id).sum()),
        contenders,
        tensors=False,
        notes=notes,
    )


DATA_SUITES: dict[str, Callable[[], Comparison]] = {"loader": loader, "tokenizer": tokenizer}


def _make_rows(packing: Packing) -> Rows:
    """Draw rows of two segments with some padding, or of three documents without."""
    random = np.random.default_rng(0)
    rows = random.integers(5, VOCABULARY, (SEQUENCES, LENGTH), dtype=np.uint16)
    rows[:, 0], rows[:, LENGTH // 2], rows[:, -1] = CLS, SEP, SEP
    if packing == "full":
        rows[:, LENGTH // 2 + 1] = CLS
    else:
        rows[::10, -(LENGTH // 4) :] = PAD
        rows[::10, -(LENGTH // 4) - 1] = SEP
    return rows


def _write_set(folder: Path, rows: Rows, packing: Packing) -> Path:
    """Write rows as shards of 64 MiB and return their folder."""
    folder.mkdir()
    writer = ShardWriter(folder, LENGTH, VOCABULARY, 64 << 20)
    writer.write(rows)
    Manifest(
        tool="benchmark",
        tokenizer_digest="0" * 64,
        vocab_size=VOCABULARY,
        pad_id=PAD,
        cls_id=CLS,
        sep_id=SEP,
        seq_len=LENGTH,
        packing=packing,
        num_documents=1,
        num_sequences=len(rows),
        num_tokens=int((rows != PAD).sum()),
        build={},
        shards=writer.close(),
    ).save(folder / "manifest.json")
    return folder


def _raw(path: Path, *, shuffled: bool) -> Run:
    """Copy rows out of a flat memory-mapped file, in order or in a random one."""

    def run() -> None:
        rows = np.memmap(path, dtype=np.uint16, mode="r").reshape(-1, LENGTH)
        order = np.random.default_rng(1).permutation(len(rows)) if shuffled else None
        for step in range(len(rows) // BATCH):
            span = slice(step * BATCH, (step + 1) * BATCH)
            torch.from_numpy(np.array(rows[span]) if order is None else rows[order[span]])

    return run


def _loaded(folder: Path, *, ahead: bool) -> Run:
    """Read an epoch with the loader, directly or through its thread."""

    def run() -> None:
        loader = ShardLoader(folder, global_batch=BATCH)
        steps = loader.corpus.num_sequences // BATCH
        stream: Iterator[object] = loader.iterate() if ahead else map(loader.batch, range(steps))
        for _ in range(steps):
            next(stream)
        loader.close()

    return run


def _plain_webdataset(folder: Path) -> Run:
    """Read the blocks in stored order with the webdataset library and cut them into batches."""
    paths = sorted(map(str, folder.glob("*.tar")))

    def run() -> None:
        for sample in webdataset.WebDataset(paths, shardshuffle=False).decode():
            for start in range(0, len(sample["npy"]), BATCH):
                torch.from_numpy(sample["npy"][start : start + BATCH])

    return run
