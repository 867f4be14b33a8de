"""Commands about site profiles: written from what the cluster says, and checked by it."""

from pathlib import Path
from typing import Annotated

import typer

from convbert.pretrain.cli import completion
from convbert.pretrain.cli.arguments import FormatOption
from convbert.pretrain.cli.slurm import Nodes, Partition, TimeLimit
from convbert.pretrain.run.exit_codes import FAILED
from convbert.pretrain.run.tables import Output

site_app = typer.Typer(help="Profiles of clusters.", no_args_is_help=True)


@site_app.command("new")
def new(
    file: Annotated[Path, typer.Argument(help="YAML file to write, for --site.")],
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Take what the cluster says, ask nothing.")
    ] = False,
) -> None:
    """Ask for a cluster's names and write a profile; SLURM's own answers are the defaults."""
    from convbert.cluster import site_new

    site_new.require_new(file)
    found = site_new.look()
    for note in found.notes:
        print(note)

    def ask(question: str, default: str) -> str:
        return default if yes else typer.prompt(question, default=default)

    site_new.write(file, site_new.answers(found, ask), found)
    print(f"{file}: written; next `convbert site check {file}`")


@site_app.command("check")
def check(
    site: Annotated[
        str, typer.Argument(help="Name of a profile, or a file.", autocompletion=completion.sites)
    ],
    nodes: Nodes = 2,
    partition: Partition = None,
    time: TimeLimit = "1:00:00",
) -> None:
    """Let SLURM test every kind of job script of a profile, queueing nothing."""
    from convbert.cluster.bindings import image_fault
    from convbert.cluster.render import JobOptions
    from convbert.cluster.site import load_site
    from convbert.cluster.site_check import refusals

    options = JobOptions.of("convbert site check", locals())
    profile = load_site(site)
    found = list(refusals(profile, options))
    found += [fault] if (fault := image_fault(profile)) else []
    for line in found:
        print(line)
    if found:
        raise typer.Exit(FAILED)
    print(f"{site}: SLURM would queue every kind of job")


@site_app.command("list")
def list_profiles(form: FormatOption = "table") -> None:
    """Show the shipped profiles, each with the first sentence of its file."""
    from itertools import takewhile

    from convbert.cluster.site import site_names, site_path

    def about(name: str) -> str:
        lines = takewhile(lambda line: line.startswith("#"), site_path(name).open())
        return " ".join(line.strip("# \n") for line in lines).partition(". ")[0].rstrip(".")

    headings = ("profile", "what for")
    Output(form).table(headings, [(name, about(name)) for name in site_names()], text=headings)
