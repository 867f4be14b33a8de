"""The command ``doctor``: what this machine has, what will be used, what is missing."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convbert.pretrain.cli.arguments import FormatOption
from convbert.pretrain.run.tables import Output

if TYPE_CHECKING:
    from convbert.pretrain.training.machine import Finding

app = typer.Typer()


@app.command()
def doctor(
    runs: Annotated[Path, typer.Option(help="Where run directories will be.")] = Path("runs"),
    form: FormatOption = "table",
) -> None:
    """Check this machine or allocation for training; exit status 1 if something is missing."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    from convbert.pretrain.cli.progress import counter
    from convbert.pretrain.training.machine import examine

    with counter("looking at this machine"):
        found = [*examine(runs), *_cluster()]
    rows = [(f.what, f.found, f"missing: {f.advice}" if f.fault else f.advice) for f in found]
    out = Output(form)
    out.table(("what", "found", "remark"), rows, text=("found", "remark"))
    faults = sum(finding.fault for finding in found)
    out.note(f"{faults} of these stop training" if faults else "nothing is missing for training")
    raise typer.Exit(1 if faults else 0)


def _cluster() -> "Iterator[Finding]":
    """Yield what there is of SLURM, and the interface that several nodes would meet on."""
    from convbert.cluster import scheduler
    from convbert.cluster.interface import own_interface
    from convbert.models.errors import UserError
    from convbert.pretrain.training.machine import Finding

    if shutil.which("sbatch") is None:
        yield Finding("SLURM", "no sbatch", "`convbert pretrain` trains here; `submit` needs it")
    else:
        answer = scheduler.call("sbatch", "--version")
        job = os.environ.get("SLURM_JOB_ID")
        inside = f"in job {job} on {os.environ.get('SLURM_JOB_NODELIST', 'a node')}" if job else ""
        said = scheduler.why_not(answer) if answer.returncode else ""
        yield Finding("SLURM", answer.stdout.strip() or "sbatch does not answer", inside or said)
    try:
        name, address = own_interface()
        yield Finding("network interface", f"{name or 'none of its own'}, {address}")
    except (UserError, OSError) as error:
        yield Finding("network interface", "none", f"{error}; several nodes cannot train together")
