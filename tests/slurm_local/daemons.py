"""Starting, stopping and killing the daemons of a local cluster."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from convbert.models.errors import UserError
from tests.slurm_local.configuration import LocalCluster

PACKAGES = "slurmctld slurmd slurm-client munge"
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
_SYSTEM_PATH = "/usr/sbin:/sbin"


def start(cluster: LocalCluster, timeout: float = 60) -> None:
    """Start munge, the controller and every node; return when all nodes are idle."""
    missing = [p for p in _PROGRAMS if shutil.which(p, path=search_path()) is None]
    if missing:
        raise UserError(
            f"{', '.join(missing)}: not installed; Debian has them: apt-get install {PACKAGES}"
        )
    if _alive(cluster.state / "slurmctld.pid"):
        raise UserError(f"{cluster.state}: a cluster runs there already; stop it first")
    shutil.rmtree(cluster.state, ignore_errors=True)
    cluster.state.mkdir(parents=True)
    cluster.write()
    _start_munge(cluster.state)
    _run(cluster, "slurmctld", "-f", str(cluster.config_file), "-i")
    for name in cluster.names():
        start_node(cluster, name)
    deadline = time.monotonic() + timeout
    while not _ready(cluster):
        if time.monotonic() > deadline:
            raise UserError(f"{cluster.state}/log: the nodes did not come up in {timeout:.0f} s")
        time.sleep(0.2)


def _ready(cluster: LocalCluster) -> bool:
    """Return whether every node is idle, or whether the controller answers where none runs."""
    if cluster.imagined:
        command = ["sinfo", "--noheader"]
        shown = subprocess.run(
            command, env=environment(cluster.state), capture_output=True, check=False
        )
        return shown.returncode == 0 and bool(shown.stdout)
    return nodes(cluster).count("idle") == cluster.nodes


def start_node(cluster: LocalCluster, name: str) -> None:
    """Start the daemon of one node."""
    _run(cluster, "slurmd", "-N", name, "-f", str(cluster.config_file))


def stop(state: Path) -> None:
    """Stop every daemon of the cluster in ``state`` and the processes that its jobs left."""
    pids = [*state.glob("slurmd-*.pid"), state / "slurmctld.pid", state / "munged.pid"]
    for file in pids:
        _kill_from(file, signal.SIGTERM)
    deadline = time.monotonic() + 10
    while any(_alive(file) for file in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    for file in pids:
        _kill_from(file, signal.SIGKILL)
    for pid in _processes(state / "slurm.conf", None):
        _kill(pid, signal.SIGKILL)


def kill_node(state: Path, name: str) -> None:
    """End a node as a power failure does: its daemon and all its processes, at once."""
    doomed = list(_processes(state / "slurm.conf", name))
    # The step daemons have no SLURM environment; their children, the tasks, have it.
    parents = {parent for pid in doomed if (parent := _parent(pid)) and _is_step_daemon(parent)}
    _kill_from(state / f"slurmd-{name}.pid", signal.SIGKILL)
    for pid in [*parents, *doomed]:
        _kill(pid, signal.SIGKILL)


def nodes(cluster: LocalCluster) -> list[str]:
    """Return the state of every node, as sinfo spells it."""
    shown = subprocess.run(
        ["sinfo", "-h", "-N", "-p", "train", "-o", "%t"],
        env=environment(cluster.state),
        capture_output=True,
        text=True,
        check=False,
    )
    return shown.stdout.split()


def environment(state: Path) -> dict[str, str]:
    """Return an environment in which SLURM's commands talk to this cluster."""
    return {**os.environ, "SLURM_CONF": str(state / "slurm.conf")}


def search_path() -> str:
    """Return PATH with the folders of daemons, which users often lack."""
    return f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}"


def _run(cluster: LocalCluster, *command: str) -> None:
    output = cluster.state / "log" / f"{command[0]}.out"
    with output.open("ab") as file:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**environment(cluster.state), "PATH": search_path()},
            start_new_session=True,
            check=False,
        )
    if done.returncode:
        raise UserError(f"{command[0]} did not start: {output.read_text()[-500:]}")


def _start_munge(state: Path) -> None:
    key = state / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(1024))
    command = ["munged", "--force"]  # it would refuse a socket under /tmp
    command += [f"--key-file={key}", f"--socket={state}/munge.socket"]
    command += [f"--pid-file={state}/munged.pid", f"--log-file={state}/log/munged.log"]
    command += [f"--seed-file={state}/munge.seed", "--num-threads=2"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": search_path()},
        check=False,
    )
    if done.returncode:
        raise UserError(f"munged did not start: {done.stderr[-500:]}")


def _processes(config: Path, node: str | None) -> Iterator[int]:
    """Yield the processes of this cluster's jobs, on ``node`` or on all nodes."""
    wanted = {f"SLURM_CONF={config}".encode()}
    if node is not None:
        wanted.add(f"SLURMD_NODENAME={node}".encode())
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = set(entry.read_bytes().split(b"\0"))
        except OSError:
            continue
        inside_job = any(v.startswith(b"SLURM_JOB_ID=") for v in variables)
        if inside_job and wanted <= variables and int(entry.parent.name) != os.getpid():
            yield int(entry.parent.name)


def _parent(pid: int) -> int | None:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    return int(status.split("PPid:")[1].split()[0])


def _is_step_daemon(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().startswith("slurmstepd")
    except OSError:
        return False


def _pid(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _alive(file: Path) -> bool:
    pid = _pid(file)
    return pid is not None and Path(f"/proc/{pid}").exists()


def _kill_from(file: Path, number: int) -> None:
    pid = _pid(file)
    if pid is not None:
        _kill(pid, number)


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
