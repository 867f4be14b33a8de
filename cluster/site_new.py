"""A profile of a cluster that SLURM describes: what it says are the defaults of the questions."""

import getpass
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from convbert.cluster import scheduler
from convbert.cluster.site import Site
from convbert.data_pipeline.atomic import atomic_write
from convbert.models.errors import AbsentError, UserError
from convbert.models.schema import validate

Ask = Callable[[str, str], str]
"""A question and the default answer, to the answer; ``-`` stands for none."""
NONE = "-"


@dataclass(frozen=True)
class Partition:
    """One kind of node of a partition, as sinfo describes it."""

    name: str
    default: bool
    cpus: int
    memory: int
    gpus: int = 0
    gpu_type: str | None = None
    features: str = ""
    limit: str = ""


@dataclass(frozen=True)
class Found:
    """What SLURM says about the cluster and this user; ``notes`` are for the person."""

    partitions: list[Partition]
    accounts: list[str] = field(default_factory=list)
    qos: list[str] = field(default_factory=list)
    requeues: bool = True
    notes: list[str] = field(default_factory=list)


def require_new(file: Path) -> None:
    """Refuse a file that cannot be written, or that is there already; raise ``UserError``."""
    if file.suffix not in (".yaml", ".yml"):
        raise UserError(f"{file}: name it with .yaml, as --site expects")
    if file.exists():
        raise UserError(f"{file}: exists already; remove it or choose another name")
    if not file.resolve().parent.is_dir():
        raise AbsentError(f"{file}: its directory does not exist; create it")


def look() -> Found:
    """Ask sinfo, scontrol and sacctmgr; raise ``AbsentError`` where there is no SLURM."""
    shown = scheduler.call("sinfo", "--noheader", "--format=%P|%c|%m|%G|%f|%l")
    if shown.returncode:
        raise UserError(f"sinfo: {' '.join(shown.stderr.split())}")
    partitions = read_partitions(shown.stdout)
    if not partitions:
        raise AbsentError("sinfo: shows no partition to you; ask the cluster's support")
    config = scheduler.answer("scontrol", "show", "config")
    requeues = not re.search(r"^JobRequeue\s*=\s*0", config, re.M)
    associations = scheduler.answer(
        *("sacctmgr", "--noheader", "--parsable2", "show", "associations"),
        *("where", f"user={getpass.getuser()}", "format=account,qos"),
    )
    pairs = [line.split("|") for line in associations.splitlines() if line.count("|") == 1]
    accounts = list(dict.fromkeys(account for account, _ in pairs if account))
    qos = list(dict.fromkeys(q for _, names in pairs for q in names.split(",") if q))
    notes = [f"partitions: {', '.join(dict.fromkeys(p.name for p in partitions))}"]
    notes += [f"your accounts: {', '.join(accounts)}"] if accounts else []
    notes += [f"your QoS: {', '.join(qos)}"] if qos else []
    if not requeues:
        notes.append("the cluster does not requeue jobs: submit with --chain")
    return Found(partitions, accounts, qos, requeues, notes)


def read_partitions(table: str) -> list[Partition]:
    """Read sinfo's lines ``PARTITION|CPUS|MEMORY|GRES|FEATURES|LIMIT``, nodes with most GPUs first.

    A ``*`` marks the default partition, a ``+`` the smallest of several values.
    """
    found = []
    for line in table.splitlines():
        name, cpus, memory, gres, features, limit = (part.strip() for part in line.split("|"))
        gpu = re.search(r"gpu:(?:([^:,()]+):)?(\d+)", gres)
        found.append(
            Partition(
                name=name.removesuffix("*"),
                default=name.endswith("*"),
                cpus=int(cpus.rstrip("+") or 1),
                memory=int(memory.rstrip("+") or 0),
                gpus=int(gpu[2]) if gpu else 0,
                gpu_type=gpu[1] if gpu else None,
                features="" if features == "(null)" else features,
                limit=limit,
            )
        )
    return sorted(found, key=lambda p: (-p.gpus, not p.default))


def answers(found: Found, ask: Ask) -> dict[str, object]:
    """Ask for what a profile needs and return its keys; raise ``UserError`` for a bad answer."""

    def optional(question: str, default: str | None) -> str | None:
        given = ask(f"{question} ({NONE} for none)", default or NONE).strip()
        return None if given == NONE else given

    partition = optional("partition", found.partitions[0].name)
    names = {p.name: p for p in reversed(found.partitions)}
    node = names.get(partition or "", found.partitions[0])
    if partition is not None and partition not in names:
        raise UserError(
            f"partition: there is no {partition!r}; choose one of {', '.join(sorted(names))}"
        )
    content: dict[str, object] = {
        "partition": partition,
        "account": optional("account", next(iter(found.accounts), None)),
        "qos": optional("QoS", None),
        "constraint": optional(f"constraint of [{node.features}]", None) if node.features else None,
    }
    gpus = _number("GPUs per node", node.gpus, ask)
    kind = optional("GPU type as in --gres=gpu:TYPE:N", node.gpu_type) if gpus else None
    share = max(1, node.cpus // (gpus or 1))
    content |= {
        "gpus_per_node": gpus,
        "gpu_type": kind,
        "cpus_per_task": _number("cores per process, one for each GPU", share, ask),
        "memory": optional("memory per node", f"{node.memory}M" if node.memory > 1 else None),
        "scratch": optional("directory on a node's own disk", "${TMPDIR:-/tmp}"),
    }
    interface = optional("network interface between nodes, e.g. ib0", None)
    if interface:
        content["network"] = {"interface": interface}
    return {key: value for key, value in content.items() if value not in (None, 0)}


def _number(question: str, default: int, ask: Ask) -> int:
    given = ask(question, str(default)).strip()
    if not given.isdecimal():
        raise UserError(f"{question}: {given!r} is not a whole number")
    return int(given)


def write(file: Path, content: dict[str, object], found: Found) -> None:
    """Check a profile and write it, with what else SLURM said as comments."""
    validate(Site, content, file)
    lines = [
        "# Written by `convbert site new` from what SLURM said; every key is in docs/slurm.md."
    ]
    lines += [f"# {note}" for note in found.notes]
    text = "\n".join(lines) + "\n" + yaml.safe_dump(content, sort_keys=False)
    with atomic_write(file) as out:
        out.write(text.encode())
