"""Throughput of the loader: ``python tests/benchmarks/bench_loader.py``.

Every contender delivers one epoch in batches of 256 x 128 in this process, in turns. The raw reads
return bare uint16 rows from one flat file; the loader returns five int64 tensors in its global
order, with every block's CRC checked. Files are in the page cache.
"""

import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
import webdataset
from numpy.typing import NDArray

from convbert.data_pipeline.loader import ShardLoader
from convbert.data_pipeline.manifest import Manifest, Packing
from convbert.data_pipeline.shards import ShardWriter

PAD, CLS, SEP, VOCABULARY = 0, 2, 3, 30_522
Rows = NDArray[np.uint16]
Contender = Callable[[], int]


def make_rows(count: int, length: int, packing: Packing) -> Rows:
    """Draw rows of two segments with some padding, or of three documents without."""
    random = np.random.default_rng(0)
    rows = random.integers(5, VOCABULARY, (count, length), dtype=np.uint16)
    rows[:, 0], rows[:, length // 2], rows[:, -1] = CLS, SEP, SEP
    if packing == "full":
        rows[:, length // 2 + 1] = CLS
    else:
        rows[::10, -(length // 4) :] = PAD
        rows[::10, -(length // 4) - 1] = SEP
    return rows


def write_set(folder: Path, rows: Rows, packing: Packing) -> Path:
    """Write rows as shards of 64 MiB and return their folder."""
    folder.mkdir()
    writer = ShardWriter(folder, rows.shape[1], VOCABULARY, 64 << 20)
    writer.write(rows)
    Manifest(
        tool="benchmark",
        tokenizer_digest="0" * 64,
        vocab_size=VOCABULARY,
        pad_id=PAD,
        cls_id=CLS,
        sep_id=SEP,
        seq_len=rows.shape[1],
        packing=packing,
        num_documents=1,
        num_sequences=len(rows),
        num_tokens=int((rows != PAD).sum()),
        build={},
        shards=writer.close(),
    ).save(folder / "manifest.json")
    return folder


def raw(path: Path, length: int, batch: int, shuffled: bool) -> Contender:
    """Copy rows out of a flat memory-mapped file, in order or in a random one."""

    def run() -> int:
        rows = np.memmap(path, dtype=np.uint16, mode="r").reshape(-1, length)
        steps = len(rows) // batch
        order = np.random.default_rng(1).permutation(len(rows)) if shuffled else None
        for step in range(steps):
            span = slice(step * batch, (step + 1) * batch)
            torch.from_numpy(np.array(rows[span]) if order is None else rows[order[span]])
        return steps * batch * length

    return run


def loaded(folder: Path, length: int, batch: int, ahead: bool) -> Contender:
    """Read an epoch with the loader, directly or through its thread."""

    def run() -> int:
        loader = ShardLoader(folder, global_batch=batch)
        steps = loader.corpus.num_sequences // batch
        stream: Iterator[object] = loader.iterate() if ahead else map(loader.batch, range(steps))
        for _ in range(steps):
            next(stream)
        loader.close()
        return steps * batch * length

    return run


def plain_webdataset(folder: Path, batch: int) -> Contender:
    """Read the blocks in stored order with the webdataset library and cut them into batches."""
    paths = sorted(map(str, folder.glob("*.tar")))

    def run() -> int:
        tokens = 0
        for sample in webdataset.WebDataset(paths, shardshuffle=False).decode():
            for start in range(0, len(sample["npy"]), batch):
                tokens += torch.from_numpy(sample["npy"][start : start + batch]).numel()
        return tokens

    return run


def main(
    sequences: Annotated[int, typer.Option(help="Sequences of the corpus.")] = 400_000,
    length: Annotated[int, typer.Option(help="Tokens per sequence.")] = 128,
    batch: Annotated[int, typer.Option(help="Sequences per batch.")] = 256,
    rounds: Annotated[int, typer.Option(help="Epochs of each contender.")] = 7,
) -> None:
    """Print a markdown table of million tokens a second, medians over rounds in turns."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rows = make_rows(sequences, length, "electra")
        rows.tofile(folder / "raw.bin")
        electra = write_set(folder / "electra", rows, "electra")
        full = write_set(folder / "full", make_rows(sequences, length, "full"), "full")
        contenders: dict[str, Contender] = {
            "raw memmap, in order": raw(folder / "raw.bin", length, batch, False),
            "raw memmap, random rows": raw(folder / "raw.bin", length, batch, True),
            "webdataset, in order": plain_webdataset(electra, batch),
            "loader, electra": loaded(electra, length, batch, False),
            "loader, electra, read ahead": loaded(electra, length, batch, True),
            "loader, full": loaded(full, length, batch, False),
        }
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, run in contenders.items():
                start = time.perf_counter()
                tokens = run()
                rates[name].append(tokens / (time.perf_counter() - start) / 1e6)
    print(f"{platform.machine()}, {sequences} x {length} tokens, batches of {batch}\n")
    print("| contender | M tokens/s, median (range) | relative to random rows |\n|---|---|---|")
    reference = rates["raw memmap, random rows"]
    for name, found in rates.items():
        ratio = statistics.median(a / b for a, b in zip(found, reference, strict=True))
        spread = f"{min(found):,.0f} to {max(found):,.0f}"
        print(f"| {name} | {statistics.median(found):,.0f} ({spread}) | {ratio:.2f} |")


if __name__ == "__main__":
    typer.run(main)
