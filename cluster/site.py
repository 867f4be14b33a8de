"""A site profile: what a cluster calls its things, written once and used by every job.

``convbert submit --site NAME`` takes a shipped profile, ``--site my-cluster.yaml`` your own. Values
that end up in ``#SBATCH`` lines are checked against what SLURM can mean by them; everything else is
quoted for the shell.
"""

from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, StringConstraints, ValidationError

from convbert.models.errors import UserError
from convbert.models.schema import StrictModel

Word = Annotated[str, StringConstraints(pattern=r"^[\w.,:@+/-]+$")]
Names = Annotated[str, StringConstraints(pattern=r"^[\w.,-]+$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Container(StrictModel):
    """The image that jobs run in; ``python`` of the site is then a path inside it."""

    runtime: Literal["apptainer", "pyxis"]
    image: str = Field(min_length=1, description="file, or name in a registry")
    mounts: list[str] = Field([], description="host paths, or HOST:INSIDE")


class Network(StrictModel):
    """What connects the nodes; decides NCCL's and gloo's settings."""

    kind: Literal["ethernet", "infiniband"] = "ethernet"
    interface: Annotated[str, StringConstraints(pattern=r"^[\w.,^=-]+$")] | None = Field(
        None, description="as `ip link` names it, e.g. ib0; default: what routes to the peers"
    )
    hca: Word | None = Field(None, description="InfiniBand adapters, e.g. mlx5_0,mlx5_1")


class PreflightLimits(StrictModel):
    """When a node is not good enough; see docs/slurm.md for what each check measures."""

    seconds: int = Field(60, gt=0, description="for the whole check")
    min_disk_gib: float = Field(5.0, ge=0, description="free in the run directory and scratch")
    min_shm_gib: float = Field(1.0, ge=0, description="free in /dev/shm")
    max_clock_skew: float = Field(2.0, gt=0, description="seconds from the median of the nodes")
    max_gpu_celsius: float = Field(85.0, gt=0)
    slow_factor: float = Field(0.7, gt=0, lt=1, description="of the median speed of all nodes")
    min_allreduce_gbps: float = Field(0.0, ge=0, description="bus bandwidth in GB/s")

    @property
    def patience(self) -> float:
        """Seconds that a node waits for the others; less than all, so that it can still say so."""
        return 0.7 * self.seconds


class Site(StrictModel):
    """One cluster, or one partition of it."""

    partition: Names | None = None
    account: Names | None = None
    qos: Names | None = None
    constraint: Annotated[str, StringConstraints(pattern=r"^[\w.,&|\[\]*-]+$")] | None = None
    gpus_per_node: int = Field(0, ge=0, description="0: a CPU site")
    gpu_type: Names | None = Field(None, description="as in --gres=gpu:TYPE:N")
    tasks_per_node: int = Field(1, gt=0, description="processes per node where there are no GPUs")
    cpus_per_task: int = Field(1, gt=0)
    memory: Annotated[str, StringConstraints(pattern=r"^\d+[KMGT]?$")] | None = Field(
        None, description="per node, e.g. 480G; 0 for all of it"
    )
    exclusive: bool = Field(False, description="no other jobs on the nodes")
    exclude: Names | None = Field(None, description="nodes never to use")
    python: str | None = Field(None, description="default: the interpreter that submits")
    modules: list[Word] = Field(default_factory=list)
    setup: list[str] = Field([], description="shell lines, run as they are")
    environment: dict[Variable, str] = Field(default_factory=dict)
    scratch: Annotated[str, StringConstraints(pattern=r"^[\w./${}:-]+$")] | None = Field(
        None, description="node-local; shell variables are expanded"
    )
    container: Container | None = None
    network: Network = Network()
    preflight: PreflightLimits = PreflightLimits()

    @property
    def processes(self) -> int:
        """Training processes per node: one per GPU."""
        return self.gpus_per_node or self.tasks_per_node

    @property
    def network_variables(self) -> dict[str, str]:
        """NCCL's and gloo's settings for the network."""
        found = {"NCCL_DEBUG": "WARN", "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1"}
        if self.network.interface:
            found["NCCL_SOCKET_IFNAME"] = self.network.interface
            found["GLOO_SOCKET_IFNAME"] = self.network.interface.lstrip("=^").split(",")[0]
        if self.network.kind == "ethernet":
            found["NCCL_IB_DISABLE"] = "1"
        elif self.network.hca:
            found["NCCL_IB_HCA"] = self.network.hca
        return found


def site_names() -> list[str]:
    """List the profiles that ship with the package."""
    folder = resources.files("convbert.cluster") / "sites"
    return sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".yaml"))


def load_site(name: str) -> Site:
    """Read a profile by its shipped name or by its path; raises ``UserError``."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        if name not in site_names():
            raise UserError(
                f"site '{name}' is unknown; choose one of {', '.join(site_names())} or give the "
                "path of a .yaml file"
            )
        path = Path(str(resources.files("convbert.cluster") / "sites" / f"{name}.yaml"))
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(f"site {path}: cannot be read ({error.strerror}); check --site") from None
    except yaml.YAMLError as error:
        raise UserError(f"site {path}: not valid YAML: {error}") from None
    try:
        return Site.model_validate(content or {})
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(str(part) for part in detail["loc"])
        raise UserError(
            f"site {path}: {where}: {detail['msg']} (got {detail['input']!r})"
        ) from None
