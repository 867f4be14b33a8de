"""Speed of reading one text in every format: ``python -m tests.benchmarks.bench_reading FILES...``.

With ``--against DIR``, another checkout, both read in turn, and the ratio of their times is shown.
CPU time is counted, each round in a process of its own, so that the first use of a package and
other users of the machine disturb less.
"""

import csv
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq
import typer

from convbert.data_pipeline.readers import iter_documents

ROOT = Path(__file__).parents[2]
# Reads a file several times and prints the shortest time; it runs in either checkout.
READ = """
import sys, time
from convbert.data_pipeline.readers import ReaderOptions, iter_documents
options = ReaderOptions(unit=sys.argv[2])
times = []
for _ in range(5):
    started = time.process_time()
    for _ in iter_documents([sys.argv[1]], options):
        pass
    times.append(time.process_time() - started)
print(min(times))
"""


def write_csv(path: Path, texts: list[str]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in texts)])


def write_parquet(path: Path, texts: list[str]) -> None:
    pq.write_table(pa.table({"text": texts}), path)


def write_jsonl(path: Path, texts: list[str]) -> None:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def joined(separator: str) -> Callable[[Path, list[str]], None]:
    return lambda path, texts: _write(path, (separator.join(texts),))


def _write(path: Path, parts: tuple[str, ...]) -> None:
    path.write_text("".join(parts) + "\n")


def write_sentences(path: Path, texts: list[str]) -> None:
    _write(path, tuple(re.sub(r"(?<=[.!?]) ", "\n", text) + "\n" for text in texts))


CASES: dict[str, tuple[str, str, Callable[[Path, list[str]], None]]] = {
    "a document a line": ("line", "lines.txt", joined("\n")),
    "a sentence a line": ("line", "sentences.txt", write_sentences),
    "blank lines between": ("paragraph", "paragraphs.txt", joined("\n\n")),
    "one file": ("file", "file.txt", joined(" ")),
    "JSON lines": ("file", "a.jsonl", write_jsonl),
    "CSV": ("file", "a.csv", write_csv),
    "parquet": ("file", "a.parquet", write_parquet),
}


def seconds(checkout: Path, path: Path, unit: str) -> float:
    """Return the CPU seconds in which a checkout reads a file."""
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
    command = [sys.executable, "-c", READ, str(path), unit]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout)


def main(
    files: list[str],
    megabytes: Annotated[float, typer.Option(help="Text that is taken, at most 60.")] = 30,
    rounds: int = 5,
    against: Annotated[Path | None, typer.Option(help="Another checkout.")] = None,
) -> None:
    texts: list[str] = []
    size = 0
    for text in iter_documents(files):
        texts.append(" ".join(text.split()))
        size += len(texts[-1].encode())
        if size >= megabytes * 1e6:
            break
    print(f"{len(texts):,} documents, {size / 1e6:.1f} MB; median of {rounds} rounds")
    for name, (unit, stored, write) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, stored)
            write(path, texts)
            ours, ratios = [], []
            for _ in range(rounds):
                ours.append(seconds(ROOT, path, unit))
                if against is not None:
                    ratios.append(ours[-1] / seconds(against, path, unit))
        line = f"{name:<20} {size / 1e6 / statistics.median(ours):8.0f} MB/s"
        if ratios:
            middle = statistics.median(ratios)
            line += f"; {middle:.2f} of its time ({min(ratios):.2f} to {max(ratios):.2f})"
        print(line, flush=True)


if __name__ == "__main__":
    typer.run(main)
