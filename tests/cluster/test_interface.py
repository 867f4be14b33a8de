"""The interface that a node meets its peers on, from NCCL's notation in the site profile."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from convbert.cluster import interface
from convbert.models.errors import AbsentError

HERE = {"docker0": "172.17.0.1", "eth0": "10.0.0.5", "ib0": "10.9.0.5", "ib1": "10.9.1.5"}


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A node with four interfaces whose peers are reached through eth0."""
    monkeypatch.setattr(interface, "addresses", lambda: {"lo": "127.0.0.1"} | HERE)
    monkeypatch.setattr(interface, "_routed", lambda: HERE["eth0"])
    for name in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("specification", "expected"),
    [
        ("", "eth0"),
        ("ib", "ib0"),
        ("ib1", "ib1"),
        ("=ib1,ib7", "ib1"),
        ("^docker0,lo", "eth0"),
        ("^docker,lo,eth", "ib0"),
        ("^=lo,eth0", "docker0"),
        ("ib,eth", "eth0"),
        ("lo", "lo"),
    ],
)
def test_interface_follows_what_nccl_understands(
    node: pytest.MonkeyPatch, specification: str, expected: str
) -> None:
    node.setenv("NCCL_SOCKET_IFNAME", specification)
    assert interface.own_interface() == (expected, interface.addresses()[expected])
    assert interface.gloo_variables() == {"GLOO_SOCKET_IFNAME": expected}


def test_missing_interface_is_named_with_those_that_exist(node: pytest.MonkeyPatch) -> None:
    node.setenv("NCCL_SOCKET_IFNAME", "=ib")
    with pytest.raises(AbsentError) as caught:
        interface.own_interface()
    assert str(caught.value) == (
        f"network.interface==ib: {socket.gethostname()} has no such interface with an IPv4 "
        "address, but lo, docker0, eth0, ib0, ib1; correct the site profile"
    )


def test_own_choice_of_gloo_is_kept(node: pytest.MonkeyPatch) -> None:
    node.setenv("GLOO_SOCKET_IFNAME", "ib1")
    assert interface.gloo_variables() == {}


def test_route_to_another_node_counts_not_the_one_to_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLURM_JOB_NODELIST", "localhost,no-such-node")
    monkeypatch.setenv("SLURMD_NODENAME", "no-such-node")
    assert interface._routed() == "127.0.0.1"


def test_dask_is_told_the_address_of_the_node(tmp_path: Path) -> None:
    (tmp_path / "show.py").write_text("import sys; print(*sys.argv[1:])")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    variables = {"NCCL_SOCKET_IFNAME": "lo", "PYTHONPATH": path}
    command = [sys.executable, "-m", "convbert.cluster.interface", "show", "--port", "0"]
    shown = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, check=True
    )
    assert shown.stdout == "--port 0 --host 127.0.0.1\n"
