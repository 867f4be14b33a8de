"""A site profile: the partition, devices, network and limits of a cluster, used by every job.

``convbert submit --site NAME`` takes a shipped profile, ``--site my-cluster.yaml`` your own. Names
are passed to SLURM as they are written; ``words`` says how they are quoted, ``options`` which of
SLURM's own options may be given, too.
"""

import math
from importlib import resources
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import Field, model_validator

from convbert.cluster.options import SbatchOptions, SrunOptions
from convbert.cluster.records import write
from convbert.cluster.words import Memory, Place, Text, Variable, Word
from convbert.models.errors import AbsentError, choose_one
from convbert.models.schema import StrictModel, YamlLoader, read_mapping, validate

_KEPT = "site.yaml"


class _AsWritten(YamlLoader):
    """Reads scalars as text: YAML makes 83 of the account 0123 and 960 of the hour 16:00."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as PyYAML declares it
        first: [(tag, form) for tag, form in forms if tag.endswith((":null", ":merge"))]
        for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class Container(StrictModel):
    """The image that jobs run in; ``python`` of the site is then a path inside it."""

    runtime: Literal["apptainer", "singularity", "pyxis"] = Field(
        description="program that starts the image"
    )
    image: str = Field(
        min_length=1, description="file, or name in a registry", examples=["/images/convbert.sif"]
    )
    mounts: list[str] = Field(
        [], description="host paths, or HOST:INSIDE", examples=[["/data", "/scratch:/tmp"]]
    )


class Network(StrictModel):
    """The network between the nodes, from which NCCL's and gloo's settings follow."""

    kind: Literal["auto", "ethernet", "infiniband"] = Field(
        "auto", description="ethernet switches InfiniBand and RoCE off"
    )
    interface: Word | None = Field(
        None,
        description="for sockets, as NCCL reads it: ib0 is a prefix, =ib0 exact, ^docker,lo all "
        "but these; default: the one that routes to the peers",
        examples=["ib0"],
    )
    hca: Word | None = Field(
        None, description="InfiniBand adapters, e.g. mlx5_0,mlx5_1", examples=["mlx5_0,mlx5_1"]
    )


class PreflightLimits(StrictModel):
    """The limits beyond which a node is unfit; docs/slurm.md says what each check measures."""

    start_seconds: int = Field(
        600,
        gt=0,
        description="seconds for the processes of all nodes to start: a slow Python, an image",
    )
    seconds: int = Field(
        60, gt=0, description="seconds for the check, once all processes have started"
    )
    min_disk_gib: float = Field(5.0, ge=0, description="GiB free in the run directory and scratch")
    min_shm_gib: float = Field(1.0, ge=0, description="GiB free in /dev/shm")
    max_clock_skew: float = Field(2.0, gt=0, description="seconds from the median of the nodes")
    max_gpu_celsius: float = Field(
        85.0, gt=0, description="degrees Celsius of a GPU above which the node is refused"
    )
    slow_factor: float = Field(
        0.7, gt=0, lt=1, description="share of the median speed of all nodes that a node must reach"
    )
    min_allreduce_gbps: float = Field(
        0.0,
        ge=0,
        description="bus bandwidth in GB/s that an all-reduce must reach; 0 checks nothing",
        examples=[40],
    )

    @property
    def minutes(self) -> int:
        """Limit of the whole step: a node may start late, and then wait for one that never does."""
        return (2 * self.start_seconds + self.seconds) // 60 + 1

    @property
    def patience(self) -> float:
        """Seconds that a node waits in the check, short enough to report it before the end."""
        return 0.7 * self.seconds


class Site(StrictModel):
    """One cluster, or one partition of it."""

    partition: Word | None = Field(
        None, description="partition that jobs go to, as sbatch's --partition", examples=["gpu"]
    )
    account: Word | None = Field(
        None, description="project that is billed, as sbatch's --account", examples=["my-project"]
    )
    qos: Word | None = Field(
        None, description="quality of service, as sbatch's --qos", examples=["long"]
    )
    constraint: Text | None = Field(
        None,
        description="features that nodes must have, as sbatch's --constraint",
        examples=["a100&ib"],
    )
    gpus_per_node: int = Field(
        0, ge=0, description="GPUs of a node, one process each; 0: a CPU site", examples=[4]
    )
    gpu_type: Word | None = Field(None, description="as in --gres=gpu:TYPE:N", examples=["a100"])
    gpu_request: Literal["gres", "gpus-per-node", "none"] = Field(
        "gres", description="the option that asks for GPUs; none where nodes come with them"
    )
    gpu_vendor: Literal["nvidia", "amd"] = Field(
        "nvidia", description="maker of the GPUs; amd starts containers with --rocm"
    )
    tasks_per_node: int = Field(1, gt=0, description="processes per node where there are no GPUs")
    cpus_per_task: int = Field(
        1, gt=0, description="processor cores of each process", examples=[16]
    )
    memory: Memory | None = Field(
        None, description="memory of a node; 0 for all of it", examples=["480G"]
    )
    exclusive: bool = Field(False, description="no other jobs on the nodes")
    exclude: Word | None = Field(None, description="nodes never to use", examples=["n[01-03],n7"])
    sbatch: SbatchOptions = Field(
        default_factory=dict,
        description="any other option of sbatch: its value, or true",
        examples=[{"reservation": "spring"}],
    )
    srun: SrunOptions = Field(
        default_factory=dict,
        description="options of srun for the processes that train",
        examples=[{"cpu-bind": "cores"}],
    )
    python: str | None = Field(
        None,
        description="interpreter in jobs; default: the one that submits",
        examples=["/software/convbert/.venv/bin/python"],
    )
    modules: list[Word] = Field(
        default_factory=list,
        description="environment modules that jobs load, in this order",
        examples=[["gcc/12", "cuda/12.4"]],
    )
    setup: list[str] = Field(
        [], description="shell lines, run as they are", examples=[["source /etc/profile"]]
    )
    environment: dict[Variable, str] = Field(
        default_factory=dict,
        description="variables of jobs; $NAME and ${NAME} are expanded on the node",
        examples=[{"HF_HOME": "/scratch/$USER/hf"}],
    )
    scratch: Place | None = Field(
        None,
        description="folder on each node's own disk; $NAME and ${NAME:-VALUE} are expanded on the "
        "node",
        examples=["/local/$SLURM_JOB_ID"],
    )
    container: Container | None = None
    network: Network = Network()
    preflight: PreflightLimits = PreflightLimits()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for key in ("mem-per-cpu", "mem-per-gpu"):
            if self.memory and key in self.sbatch:
                raise ValueError(f"memory and sbatch.{key}: SLURM takes one of them; leave one out")
        return self

    @property
    def processes(self) -> int:
        """Training processes per node: one per GPU."""
        return self.gpus_per_node or self.tasks_per_node

    @property
    def whole_nodes(self) -> bool:
        """Whether every job takes whole nodes, however little it needs."""
        return self.exclusive or (self.memory or "").rstrip("KMGTkmgt") == "0"

    @property
    def memory_share(self) -> str | None:
        """The memory of one of the node's processes, as sbatch reads it."""
        if self.memory is None:
            return None
        number, unit = int(self.memory.rstrip("KMGTkmgt")), self.memory[-1].upper()
        megabytes = number * {"K": 1 / 1024, "G": 1024, "T": 1024**2}.get(unit, 1)
        return f"{math.ceil(megabytes / self.processes)}M"

    @property
    def pyxis(self) -> bool:
        """Whether srun starts processes in a container, where ``sbatch`` cannot be called."""
        return self.container is not None and self.container.runtime == "pyxis"

    @property
    def network_variables(self) -> dict[str, str]:
        """NCCL's variables for the network; gloo's is found on each node (see ``interface``)."""
        found = {"NCCL_DEBUG": "WARN", "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1"}
        if self.network.interface:
            found["NCCL_SOCKET_IFNAME"] = self.network.interface
        if self.network.kind == "ethernet":
            found["NCCL_IB_DISABLE"] = "1"
        if self.network.hca:
            found["NCCL_IB_HCA"] = self.network.hca
        return found

    def keep(self, run_dir: Path) -> None:
        """Write the profile into a run directory, for the jobs that follow the first."""
        write(run_dir, _KEPT, yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False))

    @classmethod
    def kept(cls, run_dir: Path) -> "Site":
        """Read the profile that ``keep`` wrote into a run directory."""
        path = run_dir / "slurm" / _KEPT
        return validate(cls, read_mapping(path, _AsWritten), path)


def site_names() -> list[str]:
    """List the profiles that ship with the package."""
    folder = resources.files("convbert.cluster") / "sites"
    return sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".yaml"))


def site_path(name: str) -> Path:
    """Return the file of a shipped profile."""
    return Path(str(resources.files("convbert.cluster") / "sites" / f"{name}.yaml"))


def load_site(name: str) -> Site:
    """Read a profile by its shipped name or by its path; raise ``UserError`` if it is unusable."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        if name not in site_names():
            raise AbsentError(
                f"site '{name}' is unknown; {choose_one(name, site_names())} or give the path of a "
                ".yaml file"
            )
        path = site_path(name)
    return validate(Site, read_mapping(path, _AsWritten), f"site {path}")
