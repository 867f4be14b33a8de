"""``python -m tests.slurm_local start|stop|status|kill-node|start-node``."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from convbert.models.errors import AbsentError, UserError
from convbert.pretrain.run.exit_codes import USER_ERROR
from tests.slurm_local import daemons
from tests.slurm_local.configuration import LocalCluster

DEFAULT_STATE = Path(tempfile.gettempdir()) / f"convbert-slurm-{os.getuid()}"
_SIZE_FILE = "cluster.json"

app = typer.Typer(
    help="A SLURM of several nodes on this machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
State = Annotated[Path, typer.Option(help="Directory of the cluster; keep it short.")]
Name = Annotated[str, typer.Argument(help="node0, node1, ...")]


@app.command()
def start(
    state: State = DEFAULT_STATE,
    nodes: Annotated[int, typer.Option(help="Number of nodes.", min=1)] = 3,
    cpus: Annotated[int, typer.Option(help="CPUs per node; need not exist.", min=1)] = 4,
    gpus: Annotated[int, typer.Option(help="Fake GPUs per node (root).", min=0)] = 0,
) -> None:
    """Start a cluster and print how to use it."""
    cluster = LocalCluster(state=state.resolve(), nodes=nodes, cpus=cpus, gpus=gpus)
    daemons.start(cluster)
    (state / _SIZE_FILE).write_text(cluster.model_dump_json())
    print(f"# {nodes} nodes are up; partitions: train (preemptible) and urgent")
    print(f"export SLURM_CONF={cluster.config_file}")


@app.command()
def stop(state: State = DEFAULT_STATE) -> None:
    """Stop the cluster and everything that runs on it."""
    daemons.stop(state.resolve())


@app.command()
def status(state: State = DEFAULT_STATE) -> None:
    """Show the nodes and the queue."""
    for command in ("sinfo -N", "squeue"):
        subprocess.run(command.split(), env=daemons.environment(state.resolve()), check=False)


@app.command("kill-node")
def kill_node(name: Name, state: State = DEFAULT_STATE) -> None:
    """End a node at once, as a power failure does."""
    daemons.kill_node(state.resolve(), name)


@app.command("start-node")
def start_node(name: Name, state: State = DEFAULT_STATE) -> None:
    """Bring a node back."""
    file = state.resolve() / _SIZE_FILE
    if not file.is_file():
        raise AbsentError(f"{state}: no cluster was started there")
    daemons.start_node(LocalCluster.model_validate_json(file.read_text()), name)


if __name__ == "__main__":
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USER_ERROR)
