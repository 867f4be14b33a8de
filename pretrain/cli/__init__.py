"""The command ``convbert``: argument parsing only, the work is imported when a command runs."""

import errno
import io
import os
import sys
from typing import Annotated

import typer

from convbert.models.errors import UserError
from convbert.pretrain.cli import (
    corpus,
    doctor,
    evaluation,
    exchange,
    pages,
    pairs,
    plan,
    shards,
    show,
    site,
    slurm,
    study,
    tokenizer,
    training,
)
from convbert.pretrain.cli.overview import arrange
from convbert.pretrain.run import log

app = typer.Typer(
    help="Pretrain ConvBERT encoders: text to shards, shards to a model, a model to Hugging Face.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(corpus.corpus_app, name="corpus")
app.add_typer(tokenizer.tokenizer_app, name="tokenizer")
app.add_typer(shards.shards_app, name="shards")
for commands in (
    training.app,
    doctor.app,
    plan.app,
    study.app,
    slurm.app,
    evaluation.app,
    pairs.app,
    show.app,
    pages.app,
    exchange.app,
):
    app.add_typer(commands)
app.add_typer(site.site_app, name="site")
app.add_typer(evaluation.tasks_app, name="tasks")
app.add_typer(evaluation.track_app, name="track")
arrange(app)


# What is wrong with a place that a user named, and what to do about it.
_PLACES = {
    errno.EEXIST: "is a file where a directory belongs; choose another place",
    errno.ENOTDIR: "lies below a file, not a directory; choose another place",
    errno.EISDIR: "is a directory where a file belongs; choose another place",
    errno.EACCES: "permission is missing; change it or choose another place",
    errno.EPERM: "is not permitted; change its permissions or choose another place",
    errno.EROFS: "lies on a file system that is read-only; choose another place",
    errno.ENOSPC: "no space is left there; free some, then start again",
    errno.EDQUOT: "the quota is used up there; free some space, then start again",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}
_KERNEL = ("/proc/", "/sys/")  # where nothing can be made, and the error is that it is missing


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"convbert {version('convbert-pretrain')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show where an error comes from.")
    ] = False,
) -> None:
    if traceback:
        os.environ["CONVBERT_TRACEBACK"] = "1"


def main() -> int:
    """Run the command line; a user's error is one line on stderr and exit status 2.

    So is a place that cannot be written, which any command may find out.
    """
    for stream in (sys.stdout, sys.stderr):
        # Names and text of a terminal that cannot show them are escaped; they are no error.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    log.for_commands()
    try:
        app()
    except UserError as error:
        if os.environ.get("CONVBERT_TRACEBACK"):
            raise
        return _refuse(str(error))
    except OSError as error:
        fault = _PLACES.get(error.errno or 0)
        if error.errno == errno.ENOENT and os.fsdecode(error.filename or "").startswith(_KERNEL):
            fault = "the kernel makes what is there; choose another place"
        if fault is None or error.filename is None or os.environ.get("CONVBERT_TRACEBACK"):
            raise
        return _refuse(f"{os.fsdecode(error.filename)}: {fault}")
    return 0


def _refuse(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2
