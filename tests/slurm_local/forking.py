"""Hundreds of processes of job steps on one small machine: forked from one that has imported all.

``python -m tests.slurm_local.forking FOLDER`` writes ``FOLDER/python``, which stands for the
interpreter in a site profile: it hands its arguments, environment and streams to this server, which
forks a process that runs the module named there. What runs is the project's own code but for two
things, which two cores cannot do hundreds of times: training, and the collectives of preflight. In
their place the processes meet in the store that process 0 serves.

``FOLDER/calls`` gets a line for every file that a process opens, renames or removes below the run
directory: module, operation and path.
"""

import contextlib
import gc
import json
import os
import resource
import runpy
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore

from convbert.cluster import attempt, task  # noqa: F401
from convbert.cluster.preflight import probe, together
from convbert.pretrain.run.store import host_store

FAILING_RANK = 300
"""The process that fails in the first attempt."""
_PATIENCE = timedelta(seconds=600)
_RUNNING = [""]
"""The module that this process runs."""
_CLIENT = """\
#!/usr/bin/python3 -IS
import json, os, resource, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({socket!r})
about = {{"arguments": sys.argv[1:], "environment": dict(os.environ), "folder": os.getcwd()}}
about["files"] = resource.getrlimit(resource.RLIMIT_NOFILE)
body = json.dumps(about).encode()
socket.send_fds(server, [len(body).to_bytes(8, "big")], [0, 1, 2])
server.sendall(body)
answers = server.makefile()
pid = int(answers.readline())
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, _: os.kill(pid, number))
sys.exit(int(answers.readline() or 137))
"""


def serve(folder: Path) -> None:
    """Serve until the process is killed."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(folder / "socket"))
    server.listen(1024)
    client = folder / "python"
    client.write_text(_CLIENT.format(socket=str(folder / "socket")))
    client.chmod(0o755)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.collect()
    gc.freeze()  # so that a child does not copy what it only looks at
    while True:
        connection, _ = server.accept()
        if os.fork() == 0:
            server.close()
            _become(connection, folder)
        connection.close()


def _become(connection: socket.socket, folder: Path) -> None:
    """Run what a client asks for in this process, as far as that can be told apart."""
    leave = os._exit
    head, descriptors, _, _ = socket.recv_fds(connection, 8, 3)
    with connection.makefile("rb") as stream:
        about = json.loads(stream.read(int.from_bytes(head, "big")))

    def end(code: int) -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        connection.sendall(f"{code}\n".encode())
        leave(code)

    os._exit = end  # type: ignore[assignment]
    # A task becomes the training process: here the same one goes on.
    os.execv = lambda _, command: end(_run(command[1:]))  # type: ignore[assignment]
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.environ.clear()
    os.environ |= about["environment"]
    os.chdir(about["folder"])
    resource.setrlimit(resource.RLIMIT_NOFILE, tuple(about["files"]))
    connection.sendall(f"{os.getpid()}\n".encode())
    _record(folder / "calls")
    try:
        end(_run(about["arguments"]))
    except BaseException:
        traceback.print_exc()
        end(1)


def _run(arguments: list[str]) -> int:
    """Run ``-m MODULE ARGUMENTS``; return its status."""
    _, module, *sys.argv[1:] = arguments
    _RUNNING[:] = [module]
    stand_in = _STAND_INS.get(module)
    try:
        if stand_in is not None:
            return stand_in()
        with warnings.catch_warnings(action="ignore"):  # the module is loaded already
            runpy.run_module(module, run_name="__main__", alter_sys=False)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def _record(calls: Path) -> None:
    """Write down which files of the run directory this process touches from now on."""
    place = os.environ.get("RUN_DIR", "\0") + "/"
    file = os.open(calls, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    names = {"os.rename": "rename", "os.remove": "remove", "os.mkdir": "make directory"}
    names |= {"os.listdir": "list", "os.scandir": "list"}

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            _, _, flags = arguments
            operation = "write" if flags & (os.O_WRONLY | os.O_RDWR) else "read"
        elif event in names:
            operation = names[event]
        else:
            return
        path = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes | Path) else ""
        if f"{path}/".startswith(place):
            os.write(file, f"{_RUNNING[0]}\t{operation}\t{path.removeprefix(place)}\n".encode())

    sys.addaudithook(hook)


def _store(rank: int) -> tuple[TCPStore | None, TCPStore]:
    """Return the store that process 0 serves, there, and a connection to it."""
    served = host_store()
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return served, TCPStore(address, port, is_master=False, timeout=_PATIENCE)


def _meet(store: TCPStore, name: str, world: int) -> None:
    """Return when all processes have come here."""
    if store.add(f"{name}/count", 1) == world:
        store.set(f"{name}/all", b"")
    store.wait([f"{name}/all"], _PATIENCE)


@contextlib.contextmanager
def _joined(local: int, patience: float) -> Iterator[None]:
    """Stand for ``together.joined``."""
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    served, store = _store(rank)
    _meet(store, "joined", world)
    yield
    _leave(store, rank, world)
    del served


def _leave(store: TCPStore, rank: int, world: int) -> None:
    """End when the others have, on process 0, which serves them."""
    store.add("left", 1)
    while rank == 0 and store.add("left", 0) < world:
        time.sleep(0.2)


def _measure() -> dict[str, float]:
    """Stand for ``together.measure``."""
    return {"clock": time.time(), "tflops": 1.0, "allreduce_gbps": 1.0, "link_gbps": 1.0}


def _train() -> int:
    """Stand for the training: meet the others; in the first attempt one fails, and then all."""
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    served, store = _store(rank)
    _meet(store, "training", world)
    if os.environ.get("SLURM_RESTART_COUNT", "0") == "0":
        if rank == FAILING_RANK % world:
            print("RuntimeError: the cause", file=sys.stderr, flush=True)
            store.set("failed", b"")
            return 1
        store.wait(["failed"], _PATIENCE)
        log = Path(os.environ["RUN_DIR"]) / "slurm" / f"{os.environ['SLURM_JOB_ID']}.log"
        if rank == (1 if FAILING_RANK % world == 0 else 0):
            while b"srun: error: " not in log.read_bytes():
                time.sleep(0.2)
            store.set("noticed", b"")
        store.wait(["noticed"], _PATIENCE)
        line = f"[rank{rank}]:   File 'x.py', line 1, in a traceback that all processes print\n"
        print(line * 60, end="", file=sys.stderr, flush=True)
        _leave(store, rank, world - 1)
        return 1
    _leave(store, rank, world)
    del served
    return 0


_STAND_INS: dict[str, Callable[[], int]] = {"convbert.pretrain.training.worker": _train}

if __name__ == "__main__":
    together.joined, together.measure = _joined, _measure
    assert probe  # its module is run again, with what it imports as it is now
    serve(Path(sys.argv[1]))
