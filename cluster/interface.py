"""The network interface that the processes meet on, chosen on each node.

``network.interface`` of a site has NCCL's notation: ``ib`` is the beginning of names, ``=ib0`` a
whole name, and ``^`` excludes. Gloo and Dask take one whole name or address, and names differ
between nodes, so each node looks at its own. ``python -m convbert.cluster.interface MODULE
ARGUMENTS`` becomes a module of Dask with this node's address as ``--host``.
"""

import os
import socket
import sys

import psutil

from convbert.cluster.hostlist import expand
from convbert.models.errors import AbsentError

_ANY_PORT = 9
SPECIFICATION = "NCCL_SOCKET_IFNAME"
"""The variable of the job script; NCCL reads it, too."""


def matches(name: str, specification: str) -> bool:
    """Return whether NCCL would take the interface ``name``.

    Source: ``NCCL_SOCKET_IFNAME`` in NCCL's documentation of environment variables.
    """
    excludes = specification.startswith("^")
    rest = specification.removeprefix("^")
    whole = rest.startswith("=")
    names = rest.removeprefix("=").split(",")
    named = name in names if whole else name.startswith(tuple(names))
    return named != excludes


def own_interface() -> tuple[str | None, str]:
    """Return the name and the IPv4 address of this node's interface that its peers can reach.

    The name is None where no interface has the address. Raises ``AbsentError`` where none is left
    of those that the site profile allows.
    """
    found = addresses()
    towards_peers = _routed()
    specification = os.environ.get(SPECIFICATION)
    if not specification:
        name = next((n for n, address in found.items() if address == towards_peers), None)
        return name, towards_peers
    fitting = {n: a for n, a in found.items() if matches(n, specification)}
    if not fitting:
        raise AbsentError(
            f"network.interface={specification}: {socket.gethostname()} has no such interface with "
            f"an IPv4 address, but {', '.join(found) or 'none at all'}; correct the site profile"
        )
    # Of several, the one that routes to the peers; NCCL prefers ib*, so the loopback comes last.
    by_worth = sorted(fitting, key=lambda n: (fitting[n] != towards_peers, n == "lo"))
    return by_worth[0], fitting[by_worth[0]]


def addresses() -> dict[str, str]:
    """Return the first IPv4 address of each interface that has one."""
    found = {}
    for name, entries in psutil.net_if_addrs().items():
        own = [entry.address for entry in entries if entry.family == socket.AF_INET]
        if own:
            found[name] = own[0]
    return found


def _routed() -> str:
    """Return the address that faces another node of the job, else the one of the own host name."""
    nodes = expand(os.environ.get("SLURM_JOB_NODELIST", ""))
    # The own name may stand for a loopback address.
    others = [node for node in nodes if node != os.environ.get("SLURMD_NODENAME")]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent: this asks the routing table.
            probe.connect(((others or nodes)[-1], _ANY_PORT))
            return str(probe.getsockname()[0])
        except (OSError, IndexError):
            return socket.gethostbyname(socket.gethostname())


def gloo_variables() -> dict[str, str]:
    """Return gloo's variable, which it needs where host names resolve to a loopback address."""
    if os.environ.get("GLOO_SOCKET_IFNAME"):  # a person's own choice
        return {}
    name, _ = own_interface()
    return {"GLOO_SOCKET_IFNAME": name} if name else {}


def main(arguments: list[str]) -> None:
    """Become the module, with this node's address."""
    try:
        _, address = own_interface()
    except AbsentError as error:
        raise SystemExit(str(error)) from None
    os.execv(sys.executable, [sys.executable, "-m", *arguments, "--host", address])


if __name__ == "__main__":
    main(sys.argv[1:])
