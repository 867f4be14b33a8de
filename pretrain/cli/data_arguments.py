"""Arguments that the commands of corpora, tokenizers and shards share."""

import inspect
import shlex
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from convbert.data_pipeline.readers import ReaderOptions

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
Output = Annotated[Path, typer.Option("--output", "-o", help="Directory to create.")]
TokenizerOption = Annotated[Path, typer.Option("--tokenizer", "-t", help="Tokenizer directory.")]
SequenceLength = Annotated[int, typer.Option(help="Tokens per sequence.", min=8, max=65_536)]
Packing = Annotated[
    Literal["electra", "full"],
    typer.Option(help="electra: segment pairs of one document; full: no padding."),
]
ShardSize = Annotated[int, typer.Option(help="Size of a shard.", min=1)]
Workers = Annotated[
    int | None, typer.Option(help="Processes; default one per core.", min=1, max=1024)
]
PackingSeed = Annotated[int, typer.Option(help="Of segment lengths.", min=0)]

# The options of all commands that read text: name, type, help. They are those of the readers
# (data_pipeline/readers/options.py) that concern the text; None leaves the readers' default.
READER_OPTIONS: dict[str, tuple[Any, str]] = {
    "unit": (
        Literal["file", "line", "paragraph"],
        "What a document is in a text file; a paragraph ends at a blank line. Default: file.",
    ),
    "field": (str, "JSON key or column that holds the text. Default: text."),
    "format": (
        Literal["text", "jsonl", "csv", "tsv", "parquet", "warc", "mediawiki"],
        "Of every input; default: seen from each file.",
    ),
    "encoding": (str, "Of text, JSON lines and tables. Default: utf-8."),
    "invalid": (Literal["stop", "replace"], "Bytes that are no characters. Default: stop."),
    "on_bad_record": (
        Literal["stop", "skip"],
        "Records that cannot be read. Default: skip in WARC and dumps, else stop.",
    ),
    "quotes": (bool, "Whether double quotes may enclose a field of a table. Default: yes."),
    "html": (Literal["main", "all"], "Text taken from web pages. Default: main."),
    "namespaces": (list[int], "Of MediaWiki pages. Default: 0."),
    "max_megabytes": (int, "Longest document. Default: 64."),
}
LEAST = {"namespaces": 0, "max_megabytes": 1}
MOST = {"max_megabytes": 4096}


def training_command(shards: Path, tokenizer: Path | None = None) -> str:
    """Return the command that trains on shards, with a place to fill where nothing is known."""
    manifest = shlex.quote(str(shards / "manifest.json"))
    words = shlex.quote(str(tokenizer)) if tokenizer else "TOKENIZER"
    return f"convbert pretrain small data.manifest={manifest} data.tokenizer={words}"


def reading_words(reader: "ReaderOptions") -> list[str]:
    """Return the words of a command line that reads text in the same way."""
    from convbert.data_pipeline.readers.options import option_name

    words = []
    for name, value in reader.model_dump(exclude_defaults=True).items():
        option = f"--{option_name(name)}"
        if isinstance(value, bool):
            words.append(option if value else f"--no-{option_name(name)}")
        else:
            values = value if isinstance(value, list | tuple) else [value]
            words += [word for part in values for word in (option, str(part))]
    return words


def reads_text(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of the readers; it gets them as ``reader``."""
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "reader"]
    options = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                kind | None,
                typer.Option(*names, help=text, min=LEAST.get(name), max=MOST.get(name)),
            ],
        )
        for name, (kind, text) in READER_OPTIONS.items()
        for names in [["--input-format"] if name == "format" else []]  # --format: the output's
    ]

    @wraps(command)
    def run(*arguments: Any, **values: Any) -> None:
        given = {name: values.pop(name, None) for name in READER_OPTIONS}
        command(*arguments, **values, reader=_reader(given))

    signature = inspect.Signature([*own, *options])
    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    return run


def _reader(given: dict[str, Any]) -> "ReaderOptions":
    from convbert.data_pipeline.readers import ReaderOptions
    from convbert.models.schema import validate

    settings = {name: value for name, value in given.items() if value is not None}
    return validate(ReaderOptions, settings, "options of the readers")
