"""The measurements that a node makes alone: GPUs, versions, disk, shared memory."""

import os
import secrets
import shutil
import socket
import subprocess
from pathlib import Path

from convbert.cluster.interface import SPECIFICATION, own_interface
from convbert.cluster.preflight.faults import own_faults, shared_faults
from convbert.cluster.preflight.node_report import Gpu, NodeReport
from convbert.cluster.site import PreflightLimits
from convbert.models.errors import UserError
from convbert.pretrain.run.exit_codes import FAILED

_GIB = float(1 << 30)
_QUERY = "name,driver_version,temperature.gpu,ecc.errors.uncorrected.volatile.total"


def node_name() -> str:
    """Return the name SLURM uses for this node, outside a job the host's."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname().split(".")[0]


def examine(run_dir: Path, wanted_gpus: int) -> NodeReport:
    """Measure this node alone, for a run that wants ``wanted_gpus`` GPUs of it."""
    scratch = os.environ.get("CONVBERT_SCRATCH")
    return NodeReport(
        node=node_name(),
        wanted_gpus=wanted_gpus,
        gpus=gpus(),
        versions=versions(),
        shared_gib={str(run_dir): free_gib(run_dir)},
        disk_gib={scratch: free_gib(Path(scratch))} if scratch else {},
        shm_gib=free_gib(Path("/dev/shm")),
        shared_problem=shared_problem(run_dir),
        network_problem=network_problem(),
    )


def gpus() -> list[Gpu]:
    """Return the GPUs that nvidia-smi shows; one that has fallen off the bus is missing.

    Without nvidia-smi, as with AMD's GPUs, those that torch sees, without temperature and errors.
    """
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except FileNotFoundError:
        return _seen_by_torch()
    except subprocess.TimeoutExpired:
        return []
    return parse_gpus(done.stdout) if done.returncode == 0 else []


def _seen_by_torch() -> list[Gpu]:
    import torch

    driver = f"HIP {torch.version.hip}" if torch.version.hip else "unknown"
    return [
        Gpu(
            name=torch.cuda.get_device_name(number),
            driver=driver,
            celsius=0.0,
            uncorrected_errors=0,
        )
        for number in range(torch.cuda.device_count())
    ]


def parse_gpus(table: str) -> list[Gpu]:
    """Read nvidia-smi's lines ``NAME, DRIVER, CELSIUS, ERRORS``; ``[N/A]`` counts as 0."""
    found = []
    for line in table.strip().splitlines():
        name, driver, celsius, errors = (field.strip() for field in line.split(","))
        found.append(
            Gpu(
                name=name,
                driver=driver,
                celsius=float(celsius) if celsius.isdigit() else 0.0,
                uncorrected_errors=int(errors) if errors.isdigit() else 0,
            )
        )
    return found


def versions() -> dict[str, str]:
    """Return the versions that must be equal on all nodes."""
    import torch

    found = {"torch": torch.__version__, "CUDA": str(torch.version.cuda)}
    if torch.version.hip:
        found = {"torch": torch.__version__, "ROCm": str(torch.version.hip)}
    if torch.cuda.is_available():
        found["NCCL"] = ".".join(map(str, torch.cuda.nccl.version()))
        found["driver"] = next((gpu.driver for gpu in gpus()), "unknown")
    return found


def free_gib(path: Path) -> float:
    """Return the free space of a file system, 0 where it cannot be read."""
    try:
        return shutil.disk_usage(path).free / _GIB
    except OSError:
        return 0.0


def shared_problem(run_dir: Path) -> str | None:
    """Write a file into the run directory, read it back, delete it; return the failure, if any."""
    path = run_dir / "slurm" / f".preflight-{node_name()}-{os.getpid()}"
    content = secrets.token_hex(4096)
    try:
        path.write_text(content)
        same = path.read_text() == content
        path.unlink()
    except OSError as error:
        return f"{run_dir}: cannot be written ({error.strerror})"
    return None if same else f"{run_dir}: reads back other bytes than were written"


def network_problem() -> str | None:
    """Return what is wrong with the interface that the site names, None if nothing is."""
    try:
        if os.environ.get(SPECIFICATION):
            own_interface()
    except UserError as error:
        return str(error)
    return None


def check_here(run_dir: Path, wanted_gpus: int, limits: PreflightLimits) -> int:
    """Measure this machine alone and print the results; return ``FAILED`` if it is unfit."""
    (run_dir / "slurm").mkdir(parents=True, exist_ok=True)
    report = examine(run_dir, wanted_gpus)
    for gpu in report.gpus:
        print(f"{gpu.name}, driver {gpu.driver}, {gpu.celsius:.0f} degrees")
    print(", ".join(f"{k} {v}" for k, v in report.versions.items()))
    places = report.shared_gib | report.disk_gib
    print(", ".join(f"{v:.1f} GiB free in {k}" for k, v in places.items()))
    faults = shared_faults([report], limits) + [f.text for f in own_faults(report, limits)]
    for text in faults:
        print(f"{report.node}: {text}")
    print(f"{report.node}: {'not fit' if faults else 'fit'}")
    return FAILED if faults else 0
