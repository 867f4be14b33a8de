"""Megabytes of text per second of CPU: ``python tests/benchmarks/bench_corpus.py FILES -t DIR``.

Every step runs in one process, one thread. With ``--datatrove PYTHON``, an environment that has
datatrove, its counterparts do the same text in the same run; ``datatrove_steps.py`` says how.
CPU time is counted, not wall-clock time, so that other users of the machine disturb less.
"""

import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from convbert.data_pipeline.corpus_build.build import build_corpus
from convbert.data_pipeline.corpus_build.build_settings import BuildConfig
from convbert.data_pipeline.corpus_build.clean import Steps
from convbert.data_pipeline.corpus_build.progress import BuildProgress
from convbert.data_pipeline.dedup.dedup_settings import DedupConfig
from convbert.data_pipeline.dedup.records import PieceRecords
from convbert.data_pipeline.dedup.words import hash_words
from convbert.data_pipeline.packing.build import build_shards
from convbert.data_pipeline.readers import read_documents
from convbert.data_pipeline.tokenizer.hugging_face import fast_tokenizer
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer

Step = Callable[[Path], object]


def take(files: list[Path], limit: int, out: Path) -> int:
    """Write documents of all files, as much text of each, so many bytes; return the bytes."""
    readers = {number: read_documents([file]) for number, file in enumerate(files)}
    sizes = dict.fromkeys(readers, 0)
    total = 0
    with out.open("w") as file:
        while readers and total < limit:
            number = min(readers, key=sizes.__getitem__)
            document = next(readers[number], None)
            if document is None:
                del readers[number]
                continue
            sizes[number] += len(document.text.encode())
            total += len(document.text.encode())
            file.write(json.dumps({"text": document.text}, ensure_ascii=False) + "\n")
    return total


def steps(corpus: Path, tokenizer: Path) -> dict[str, Step]:
    """Return what is measured; each gets an empty folder to write to."""
    config = BuildConfig(
        inputs=(str(corpus),),
        tokenizer={"path": tokenizer},  # type: ignore[arg-type]
        shards={"seq_len": [128]},  # type: ignore[arg-type]
    )

    def clean(_: Path) -> None:
        work = Steps(config.all_sources()[0], config, None)
        for batch in work.read(read_documents([corpus])):
            work.clean(batch)

    def signatures(folder: Path) -> None:
        records = PieceRecords(DedupConfig())
        for batch in Steps(config.all_sources()[0], config, None).read(read_documents([corpus])):
            texts = [document.text for document in batch]
            records.add(texts, hash_words(texts))
        records.save(folder)

    def shards(folder: Path) -> None:
        build_shards([corpus], tokenizer, folder / "shards")

    def everything(folder: Path) -> None:
        build_corpus(config, folder / "out", BuildProgress(), workers=1)

    return {
        "clean and filter": clean,
        "near-duplicate signatures": signatures,
        "tokenize, pack, write": shards,
        "end to end": everything,
    }


def measure(run: Step) -> float:
    """Return the CPU seconds of a step."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        run(Path(folder))
        return time.process_time() - start


def rival(python: Path, corpus: Path, tokenizer: Path) -> dict[str, float]:
    """Return the CPU seconds of datatrove's steps."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tokenizer.json"
        fast_tokenizer(Tokenizer.load(tokenizer)).save(str(file))
        script = Path(__file__).with_name("datatrove_steps.py")
        command = [str(python), str(script), str(corpus), str(file), folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(
    files: list[Path],
    tokenizer: Annotated[Path, typer.Option("--tokenizer", "-t", help="Its directory.")],
    megabytes: Annotated[float, typer.Option(help="Text to take, as much of each file.")] = 20,
    rounds: Annotated[int, typer.Option(help="Rounds of our steps.")] = 3,
    datatrove: Annotated[Path | None, typer.Option(help="Python that has datatrove.")] = None,
) -> None:
    """Print a markdown table."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.jsonl"
        size = take(files, int(megabytes * 1e6), corpus) / 1e6
        ours = steps(corpus, tokenizer)
        times: dict[str, list[float]] = {name: [] for name in ours}
        for _ in range(rounds):
            for name, run in ours.items():
                times[name].append(measure(run))
        theirs = rival(datatrove, corpus, tokenizer) if datatrove else {}
    print(f"{size:.1f} MB of text, {rounds} rounds, MB per second of CPU, median (range)\n")
    print("| step | convbert | datatrove | ratio |\n|---|---:|---:|---:|")
    for name, found in times.items():
        middle = statistics.median(found)
        spread = f"{size / middle:.1f} ({size / max(found):.1f} to {size / min(found):.1f})"
        other = theirs.get(name)
        rest = f"{size / other:.2f} | {other / middle:.0f}x" if other else "| "
        print(f"| {name} | {spread} | {rest} |")


if __name__ == "__main__":
    typer.run(main)
