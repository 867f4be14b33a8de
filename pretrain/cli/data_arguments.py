"""Arguments that the commands of corpora, tokenizers and shards share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

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
