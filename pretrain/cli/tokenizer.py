"""Commands of tokenizers: train one, and see how well it fits a text."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from convbert.models.errors import UserError
from convbert.pretrain.cli.arguments import FormatOption, between
from convbert.pretrain.cli.data_arguments import Inputs, reading_words, reads_text
from convbert.pretrain.run.tables import Output

if TYPE_CHECKING:
    from convbert.data_pipeline.readers import ReaderOptions

tokenizer_app = typer.Typer(help="Train and inspect tokenizers.", no_args_is_help=True)


@tokenizer_app.command("train")
@reads_text
def tokenizer_train(
    inputs: Inputs,
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to create.")],
    vocab_size: Annotated[
        int, typer.Option(help="Number of ids.", min=300, max=10_000_000)
    ] = 32_000,
    model_type: Annotated[Literal["unigram", "bpe"], typer.Option(help="Algorithm.")] = "unigram",
    character_coverage: Annotated[
        float,
        typer.Option(
            help="Share of characters with a piece; others become bytes.",
            callback=between(0, 1, above=True),
        ),
    ] = 0.9995,
    ascii: Annotated[
        bool, typer.Option(help="Cover every printable ASCII character that occurs.")
    ] = True,
    max_sentences: Annotated[
        int, typer.Option(help="Size of the training sample.", min=1)
    ] = 2_000_000,
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Fold case, as BERT's.")] = False,
    normalization: Annotated[
        Literal["nmt_nfkc", "nfkc", "identity"],
        typer.Option(help="Rule of sentencepiece; identity: the text as it is."),
    ] = "nmt_nfkc",
    threads: Annotated[
        int, typer.Option(help="Pinned: a unigram model depends on it.", min=1, max=1024)
    ] = 2,
    *,
    reader: "ReaderOptions",
) -> None:
    """Train a sentencepiece tokenizer on a reproducible sample."""
    from convbert.data_pipeline.readers import iter_documents
    from convbert.data_pipeline.tokenizer.training import train_tokenizer
    from convbert.pretrain.cli.progress import counter

    with counter(f"training a {model_type} tokenizer", unit="documents read") as count:
        tokenizer = train_tokenizer(
            count.each(iter_documents(inputs, reader)),
            output,
            vocab_size=vocab_size,
            model_type=model_type,
            character_coverage=character_coverage,
            ascii=ascii,
            max_sentences=max_sentences,
            lowercase=lowercase,
            normalization=normalization,
            threads=threads,
        )
    print(f"{output}: {tokenizer.vocab_size:,} ids, sha256 {tokenizer.digest[:12]}")
    words = [*inputs, *reading_words(reader), "-o", "shards", "-t", str(output)]
    print(f"next: convbert shards build {shlex.join(words)}")


@tokenizer_app.command("report")
@reads_text
def tokenizer_report(
    tokenizer: Annotated[Path, typer.Argument(help="Tokenizer directory.")],
    inputs: Inputs,
    documents: Annotated[int, typer.Option(help="Size of the sample.", min=1)] = 10_000,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    form: FormatOption = "table",
    *,
    reader: "ReaderOptions",
) -> None:
    """Show how well a tokenizer fits a text: tokens per word, unknown tokens, lengths, examples."""
    from convbert.data_pipeline.packing.tokenizer_report import report_tokenizer
    from convbert.data_pipeline.readers import iter_documents
    from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
    from convbert.pretrain.cli.progress import counter

    if as_json and form != "table":
        raise UserError(f"--format {form}: --json is another form; leave out one of them")
    loaded = Tokenizer.load(tokenizer)
    texts = iter_documents(inputs, reader)
    with counter("tokenizing", unit="documents") as count:
        report = report_tokenizer(loaded, count.each(texts), documents=documents)
    if as_json:
        print(report.model_dump_json(indent=1))
    else:
        Output(form).figures(report.figures())
