"""The rendezvous of a job's processes: SLURM's variables in, torch's variables out.

It needs neither scontrol nor a resolvable host name. Process 0 opens a socket on a port that the
system picks and writes its address to a file that the others wait for. The socket stays open and is
handed to torch, so no other job on the node can take the port in between.
"""

import os
import resource
import socket
import time
from pathlib import Path

from convbert.cluster.interface import gloo_variables, own_interface
from convbert.models.errors import UserError
from convbert.pretrain.run.store import STORE

SECONDS = 600.0
"""For which a process waits for process 0, whose node may start slowly."""
_A_DAY = 86_400.0
_OTHER_FILES = 1024
"""Open files that a process may want beside its connections: shards, libraries, logs."""
_FEWEST_OTHERS = 128


def environment(folder: Path, patience: float = SECONDS) -> dict[str, str]:
    """Return the variables that torch and DeepSpeed read, once process 0's address is known.

    Raises ``TimeoutError`` if process 0 does not publish it within ``patience`` seconds,
    ``AbsentError`` where the node lacks the network interface that the site names, and
    ``UserError`` where a process may not open a connection for each of the others.
    """
    rank, world = int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_NTASKS"])
    allow_connections(world)
    found = {
        "RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_RANK": os.environ["SLURM_LOCALID"],
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # everyone, process 0 too, is a client
        **gloo_variables(),
    }
    step = [os.environ.get(f"SLURM_{n}", "0") for n in ("JOB_ID", "RESTART_COUNT", "STEP_ID")]
    file = folder / f"meeting-{'-'.join(step)}"
    if rank == 0:
        address, port, descriptor = publish(file)
        found[STORE] = str(descriptor)
    else:
        address, port = await_address(file, patience)
    return found | {"MASTER_ADDR": address, "MASTER_PORT": str(port)}


def allow_connections(world: int) -> None:
    """Raise the limit of open files, because process 0 keeps a connection to every other one.

    A shell's limit is often 1,024, and SLURM hands it on to jobs. Raises ``UserError`` where more
    is not allowed.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = world + _OTHER_FILES
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if allowed < world + _FEWEST_OTHERS:
        raise UserError(
            f"{socket.gethostname()}: a process may open {hard} files here, too few for "
            f"connections to {world} processes; raise the hard limit (`ulimit -Hn`), or "
            "take fewer processes"
        )
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def publish(file: Path) -> tuple[str, int, int]:
    """Open a socket, write ``ADDRESS PORT`` to ``file``; return both and the file descriptor."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("", 0))
    listener.listen(65_535)  # the system takes its own limit, if that is lower
    (_, address), port = own_interface(), listener.getsockname()[1]
    for old in file.parent.glob("meeting-*"):
        if old.stat().st_mtime < time.time() - _A_DAY:
            old.unlink(missing_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(f"{address} {port}")
    temporary.replace(file)
    os.set_inheritable(listener.fileno(), True)
    return address, port, listener.detach()


def await_address(file: Path, patience: float) -> tuple[str, int]:
    """Wait ``patience`` seconds for process 0's file; raise ``TimeoutError`` if it is missing."""
    deadline = time.monotonic() + patience
    pause = 0.5  # first, because NFS caches for long that a file was not there
    while time.monotonic() < deadline:
        time.sleep(pause)
        try:
            address, port = file.read_text().split()
            return address, int(port)
        except (FileNotFoundError, ValueError):
            pause = min(2 * pause, 5.0)
    raise TimeoutError(f"{socket.gethostname()}: no {file} after {patience:.0f} s; is it shared?")
