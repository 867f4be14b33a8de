"""Commands of shards: build, combine, verify and look into them."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convbert.pretrain.cli.arguments import FormatOption, between
from convbert.pretrain.cli.data_arguments import (
    Inputs,
    Output,
    Packing,
    PackingSeed,
    SequenceLength,
    Shards,
    ShardSize,
    TokenizerOption,
    Workers,
    reads_text,
    training_command,
)
from convbert.pretrain.run import tables

if TYPE_CHECKING:
    from convbert.data_pipeline.readers import ReaderOptions

shards_app = typer.Typer(help="Build, verify and look into shards.", no_args_is_help=True)


@shards_app.command("build")
@reads_text
def shards_build(
    inputs: Inputs,
    output: Output,
    tokenizer: TokenizerOption,
    seq_len: SequenceLength = 128,
    packing: Packing = "electra",
    shard_megabytes: ShardSize = 256,
    workers: Workers = None,
    seed: PackingSeed = 0,
    *,
    reader: "ReaderOptions",
) -> None:
    """Tokenize and pack text into verified WebDataset shards."""
    from convbert.data_pipeline.packing.build import RowSettings, build_shards
    from convbert.pretrain.cli.progress import documents

    with documents("packing", _input_size(inputs, reader)) as report:
        manifest = build_shards(
            inputs,
            tokenizer,
            output,
            rows=RowSettings(seq_len, packing, shard_megabytes << 20, seed),
            workers=workers or _cores(),
            options=reader,
            report=report,
        )
    print(manifest.describe(output))
    print(f"next: {training_command(output, tokenizer)}")


@shards_app.command("tokenize")
@reads_text
def shards_tokenize(
    inputs: Inputs,
    output: Output,
    tokenizer: TokenizerOption,
    workers: Workers = None,
    *,
    reader: "ReaderOptions",
) -> None:
    """Tokenize text once, to pack it to several lengths with `convbert shards pack`."""
    from convbert.data_pipeline.packing.build import tokenize_corpus
    from convbert.pretrain.cli.progress import documents

    with documents("tokenizing", _input_size(inputs, reader)) as report:
        manifest = tokenize_corpus(
            inputs,
            tokenizer,
            output,
            workers=workers or _cores(),
            options=reader,
            report=report,
        )
    print(
        f"{output}: {manifest.num_documents:,} documents, {manifest.num_tokens:,} tokens in "
        f"{len(manifest.parts)} file(s)"
    )
    words = shlex.join([str(output), "-o", "shards", "--seq-len", "128"])
    print(f"next: convbert shards pack {words}")


@shards_app.command("pack")
def shards_pack(
    tokens: Annotated[Path, typer.Argument(help="Directory that `shards tokenize` made.")],
    output: Output,
    seq_len: SequenceLength = 128,
    packing: Packing = "electra",
    shard_megabytes: ShardSize = 256,
    workers: Workers = None,
    seed: PackingSeed = 0,
) -> None:
    """Pack tokenized text into shards: the bytes of `shards build` with the same settings."""
    from convbert.data_pipeline.packing.build import RowSettings, pack_tokens
    from convbert.data_pipeline.packing.tokens import TokenManifest
    from convbert.pretrain.cli.progress import documents

    with documents("packing", TokenManifest.load(tokens).num_tokens) as report:
        manifest = pack_tokens(
            tokens,
            output,
            rows=RowSettings(seq_len, packing, shard_megabytes << 20, seed),
            workers=workers or _cores(),
            report=report,
        )
    print(manifest.describe(output))
    print(f"next: {training_command(output)}")


@shards_app.command("merge")
def shards_merge(
    sets: Annotated[list[Path], typer.Argument(help="Directories of shards, in order.")],
    output: Output,
) -> None:
    """Make one set of several, verified; shards are linked, not written again."""
    from convbert.data_pipeline.shards.combine import merge_shards
    from convbert.pretrain.cli.progress import counter

    with counter("merging and verifying"):
        manifest = merge_shards(sets, output)
    print(manifest.describe(output))
    print(f"next: {training_command(output)}")


@shards_app.command("split")
def shards_split(
    shards: Annotated[Path, typer.Argument(help="Directory of the shards.")],
    output: Output,
    shares: Annotated[
        list[float],
        typer.Option(
            "--share",
            help="Of each part, e.g. --share 99 --share 1.",
            callback=between(0, above=True),
        ),
    ],
) -> None:
    """Make consecutive parts of a set, verified; only a shard that is cut is written again."""
    from convbert.data_pipeline.shards.combine import split_shards
    from convbert.pretrain.cli.progress import counter

    with counter("splitting and verifying"):
        parts = split_shards(shards, output, shares)
    for number, manifest in enumerate(parts):
        print(manifest.describe(output / f"part-{number}"))
    print(f"next: {training_command(output / 'part-0')}")


@shards_app.command("verify")
def shards_verify(
    shards: Shards,
    workers: Annotated[
        int | None, typer.Option(help="Threads; default one per core.", min=1)
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option("--tokenizer", "-t", help="Tokenizer of the build, to compare its ids too."),
    ] = None,
) -> None:
    """Check every digest, count and id; name each fault. Exit status 1 if there is one."""
    from convbert.data_pipeline.shards.manifest import Manifest
    from convbert.data_pipeline.shards.verify import verify_shards
    from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
    from convbert.pretrain.cli.progress import counter

    known = Tokenizer.load(tokenizer) if tokenizer else None
    total = sum(shard.bytes for shard in Manifest.load(shards, as_it_is=True).shards)
    with counter("verifying", total / 1e6, "MB") as count:
        faults = verify_shards(shards, workers, lambda done: count.advance(done / 1e6), known)
    for fault in faults:
        print(fault)
    print(f"{shards}: {len(faults)} fault(s) in {total / 1e6:,.1f} MB of shards")
    raise typer.Exit(1 if faults else 0)


@shards_app.command("info")
def shards_info(shards: Shards, form: FormatOption = "table") -> None:
    """Show what a set of shards holds and how it was built."""
    from convbert.data_pipeline.packing.inspect import info

    tables.Output(form).figures(info(shards))


@shards_app.command("head")
def shards_head(
    shards: Shards,
    tokenizer: Annotated[Path, typer.Option("--tokenizer", "-t", help="Tokenizer directory.")],
    count: Annotated[int, typer.Option("--count", "-n", help="Sequences.", min=1)] = 5,
    first: Annotated[int, typer.Option(help="Number of the first sequence.", min=0)] = 0,
    ids: Annotated[bool, typer.Option("--ids", help="Show the ids too.")] = False,
) -> None:
    """Show stored sequences as text, segments marked."""
    from convbert.data_pipeline.packing.inspect import head
    from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer

    for line in head(shards, Tokenizer.load(tokenizer), count, first=first, ids=ids):
        print(line)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _input_size(inputs: list[str], reader: "ReaderOptions") -> int:
    from convbert.data_pipeline.readers import find_files

    return sum(f.size() for f in find_files(inputs, reader.format).files if f.is_plain)
